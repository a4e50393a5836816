Feature: Secrets
  As the operator of workflows
  I want secrets to reach who needs them and nobody else
  So that no log, history or error shows one

  Scenario: A call names a secret, and the engine never knows it
    Given a workflow with definition:
    """yaml
    use: { secrets: [ api ] }
    do:
      - find: { call: http, with: { method: get, endpoint: 'https://pets.example', headers: { Authorization: '${ "Bearer \($secrets.api.token)" }' } } }
    """
    When the workflow is executed
    Then http should be called with:
    """yaml
    method: get
    endpoint: https://pets.example
    headers: { Authorization: "Bearer \uE000secret:api.token\uE001" }
    output: content
    redirect: false
    """

  Scenario: A secret may be a whole policy
    Given a workflow with definition:
    """yaml
    use: { secrets: [ api ], authentications: { pets: { basic: { use: api } } } }
    do:
      - find: { call: http, with: { method: get, endpoint: { uri: 'https://pets.example', authentication: { use: pets } } } }
    """
    When the workflow is executed
    Then http should be called with:
    """yaml
    method: get
    endpoint: { uri: https://pets.example, authentication: { basic: { use: api } } }
    output: content
    redirect: false
    """

  Scenario: Input cannot pass as a secret
    Given a workflow with definition:
    """yaml
    use: { secrets: [ api ] }
    do:
      - tell: { call: http, with: { method: post, endpoint: 'https://pets.example', body: '${ . }' } }
    """
    And given the workflow input is:
    """yaml
    note: "\uE000secret:api\uE001"
    """
    When the workflow is executed
    Then http should be called with:
    """yaml
    method: post
    endpoint: https://pets.example
    body: { note: "\uFFFDsecret:api\uE001" }
    output: content
    redirect: false
    """

  Scenario: A secret cannot be stored
    Given a workflow with definition:
    """yaml
    use: { secrets: [ api ] }
    do:
      - keep: { set: { token: '${ $secrets.api }' } }
    """
    Then the definition should be refused

  Scenario: A secret must be declared
    Given a workflow with definition:
    """yaml
    use: { secrets: [ api ] }
    do:
      - find: { call: http, with: { method: get, endpoint: 'https://pets.example', body: '${ $secrets.apy }' } }
    """
    Then the definition should be refused
