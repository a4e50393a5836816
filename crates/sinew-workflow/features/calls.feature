Feature: Calls outside the bus
  As the author of a workflow
  I want to call whatever the specification names, with arguments computed from my data
  So that a workflow reaches what does not live on the bus

  Scenario: An HTTP call computes its arguments and fills in what is not said
    Given a workflow with definition:
    """yaml
    do:
      - find:
          call: http
          with:
            method: get
            endpoint: https://pets.example/{kind}/{id}
            query: { page: '${ .page }' }
            headers: { X-Trace: 'order ${ .id }' }
    """
    And given the workflow input is:
    """yaml
    { kind: small dogs, id: 7, page: [ 1 ] }
    """
    And http answers ok { name: Rex }
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    name: Rex
    """
    And http should be called with:
    """yaml
    method: get
    endpoint: https://pets.example/small%20dogs/7
    query: { page: [ 1 ] }
    headers: { X-Trace: order 7 }
    output: content
    redirect: false
    """
    And http should wait 30s for its reply

  Scenario: What a URI template does not find is left out
    Given a workflow with definition:
    """yaml
    do:
      - find: { call: http, with: { method: get, endpoint: 'https://pets.example/{kind}?id={id}' } }
    """
    And given the workflow input is:
    """yaml
    id: null
    """
    When the workflow is executed
    Then http should be called with:
    """yaml
    { method: get, endpoint: 'https://pets.example/?id=', output: content, redirect: false }
    """

  Scenario: A list cannot be part of a URI
    Given a workflow with definition:
    """yaml
    do:
      - find: { call: http, with: { method: get, endpoint: 'https://pets.example/{ids}' } }
    """
    And given the workflow input is:
    """yaml
    ids: [ 1, 2 ]
    """
    When the workflow is executed
    Then the workflow should fault
    And nothing should be called

  Scenario: Braces that come from data are no template
    Given a workflow with definition:
    """yaml
    do:
      - find: { call: http, with: { method: get, endpoint: '${ .where }' } }
    """
    And given the workflow input is:
    """yaml
    { where: 'https://pets.example/{id}', id: 7 }
    """
    When the workflow is executed
    Then http should be called with:
    """yaml
    { method: get, endpoint: 'https://pets.example/{id}', output: content, redirect: false }
    """

  Scenario: A task's timeout bounds its call
    Given a workflow with definition:
    """yaml
    do:
      - find:
          call: http
          with: { method: get, endpoint: 'https://pets.example' }
          timeout: { after: PT5S }
    """
    And http answers never
    When the workflow is executed
    Then the workflow should fault
    And http should wait 5s for its reply

  Scenario: A refused call is caught by its status, and retried
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - find: { call: http, with: { method: get, endpoint: 'https://pets.example' } }
          catch:
            errors: { with: { type: 'https://open-workflow-specification.org/spec/1.0.0/errors/communication', status: 503 } }
            retry: { delay: PT1S, limit: { attempt: { count: 2 } } }
    """
    And http answers refused 503, then refused 503, then ok { done: true }
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    done: true
    """
    And http should be called 3 times

  Scenario: An HTTP call is undone by another one
    Given a workflow with definition:
    """yaml
    do:
      - book:
          call: http
          with: { method: post, endpoint: 'https://hotel.example/rooms', body: { nights: '${ .nights }' } }
          compensate: { call: http, with: { method: delete, endpoint: 'https://hotel.example/rooms/{id}' } }
      - pay: { call: payments.charge }
    """
    And given the workflow input is:
    """yaml
    nights: 2
    """
    And http answers ok { id: 9 }
    And payments.charge answers refused 402
    When the workflow is executed
    Then the workflow should fault
    And the saga should be compensated
    And http should be called with:
    """yaml
    { method: delete, endpoint: 'https://hotel.example/rooms/9', output: content, redirect: false }
    """

  Scenario: A call whose reply was lost may have been done, and is undone
    Given a workflow with definition:
    """yaml
    do:
      - book:
          call: http
          with: { method: post, endpoint: 'https://hotel.example/rooms' }
          compensate: { call: hotel.cancel, with: { key: '${ $task.idempotencyKey }' } }
    """
    And http answers lost
    When the workflow is executed
    Then the saga should be compensated
    And book should be undone
    And hotel.cancel should be called with:
    """yaml
    key: i/do/0/book
    """

  Scenario: Authentication policies are named once and used anywhere
    Given a workflow with definition:
    """yaml
    use:
      authentications:
        pets: { bearer: { token: '${ .token }' } }
    do:
      - find:
          call: openapi
          with:
            document: { endpoint: { uri: 'https://pets.example/api.json', authentication: { use: pets } } }
            operationId: find
            authentication: { use: pets }
    """
    And given the workflow input is:
    """yaml
    token: abc
    """
    When the workflow is executed
    Then openapi should be called with:
    """yaml
    document: { endpoint: { uri: 'https://pets.example/api.json', authentication: { bearer: { token: abc } } } }
    operationId: find
    authentication: { bearer: { token: abc } }
    output: content
    redirect: false
    """

  Scenario: A policy that does not exist is an error with a suggestion
    Given a workflow with definition:
    """yaml
    use: { authentications: { pets: { bearer: { token: abc } } } }
    do:
      - find: { call: http, with: { method: get, endpoint: { uri: 'https://pets.example', authentication: { use: pet } } } }
    """
    Then the definition should be refused

  Scenario: A process is run with its arguments, and returns what it writes
    Given a workflow with definition:
    """yaml
    do:
      - greet:
          run:
            shell: { command: 'echo ${ .name }', arguments: [ '${ .name }' ], environment: { NAME: '${ .name }' } }
    """
    And given the workflow input is:
    """yaml
    name: Ada
    """
    And shell answers ok "Ada"
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    Ada
    """
    And shell should be called with:
    """yaml
    shell: { command: echo Ada, arguments: [ Ada ], environment: { NAME: Ada } }
    await: true
    return: stdout
    """

  Scenario: A process that is not awaited leaves the input of its task
    Given a workflow with definition:
    """yaml
    do:
      - watch:
          input: { from: '${ { n: .n } }' }
          run: { container: { image: watcher }, await: false }
    """
    And given the workflow input is:
    """yaml
    { n: 1, m: 2 }
    """
    And container answers ok "ignored"
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    n: 1
    """

  Scenario: An MCP call has its own timeout and the protocol's version
    Given a workflow with definition:
    """yaml
    do:
      - ask:
          call: mcp
          with:
            method: tools/call
            parameters: { name: weather, arguments: { town: '${ .town }' } }
            timeout: PT7S
            transport: { http: { endpoint: 'https://tools.example/{town}' } }
    """
    And given the workflow input is:
    """yaml
    town: Oslo
    """
    When the workflow is executed
    Then mcp should be called with:
    """yaml
    method: tools/call
    parameters: { name: weather, arguments: { town: Oslo } }
    timeout: PT7S
    transport: { http: { endpoint: https://tools.example/Oslo } }
    protocolVersion: '2025-06-18'
    """
    And mcp should wait 7s for its reply
