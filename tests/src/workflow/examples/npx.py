#!/usr/bin/env python3
"""Stands in for npx and the MCP server it would fetch: says which message it was asked to post, and with what token."""
import json
import os
import sys

assert sys.argv[1:] == ["slack-mcp-serverr@latest", "--transport", "stdio"], sys.argv
for line in sys.stdin:
    message = json.loads(line)
    method, result = message["method"], None
    if method == "initialize":
        capabilities = {"tools": {}}
        result = {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": {"name": "slack", "version": "1"}}
    elif method == "tools/call":
        given = message["params"]["arguments"]
        text = f'{message["params"]["name"]} {given["channel_id"]} {os.environ["SLACK_MCP_XOXP_TOKEN"][:5]}'
        result = {"content": [{"type": "text", "text": text}]}
    if result is not None:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
