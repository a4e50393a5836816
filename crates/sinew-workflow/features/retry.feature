Feature: Retry
  As the author of a workflow
  I want calls that fail to be tried again by my policy, and never beyond it
  So that a service that is away for a moment costs time and nothing else

  Scenario: A refused call is tried again at growing intervals until it succeeds
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - reserve: { call: stock.reserve }
          catch:
            retry: { delay: PT1S, backoff: { exponential: {} }, limit: { attempt: { count: 5 } } }
    """
    And stock.reserve answers refused 503, then refused 503, then refused 503, then ok {"id": 7}
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    id: 7
    """
    And stock.reserve should be called at 0s, 1s, 3s, 7s
    And reserve should have 4 attempts

  Scenario: Every attempt carries the same idempotency key
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - reserve: { call: stock.reserve }
          catch: { retry: { delay: PT1S, limit: { attempt: { count: 3 } } } }
    """
    And stock.reserve answers lost, then lost, then ok
    When the workflow is executed
    Then the workflow should complete
    And stock.reserve should be called 3 times
    And stock.reserve should be called with one key
    And stock.reserve should be called with the key i/do/0/attempt/try/0/reserve

  Scenario: Spent retries raise the last error
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - reserve: { call: stock.reserve }
          catch: { retry: { delay: PT1S, limit: { attempt: { count: 2 } } } }
    """
    And stock.reserve answers refused 503, then refused 503, then refused 429
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    status: 429
    instance: /do/0/attempt/try/0/reserve
    """
    And stock.reserve should be called at 0s, 1s, 2s

  Scenario: Spent retries are followed by the handler
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - reserve: { call: stock.reserve }
          catch:
            retry: { delay: PT1S, limit: { attempt: { count: 1 } } }
            do:
              - instead: { set: { failed: '${ $error.status }' } }
    """
    And stock.reserve answers refused 503 for ever
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    failed: 503
    """
    And stock.reserve should be called 2 times

  Scenario: A linear backoff grows by its increment
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - reserve: { call: stock.reserve }
          catch: { retry: { delay: PT1S, backoff: { linear: { increment: PT2S } }, limit: { attempt: { count: 3 } } } }
    """
    And stock.reserve answers lost for ever
    When the workflow is executed
    Then the workflow should fault
    And stock.reserve should be called at 0s, 1s, 4s, 9s

  Scenario: A limit on the duration stops before it is passed
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - reserve: { call: stock.reserve }
          catch: { retry: { delay: PT4S, limit: { duration: PT10S } } }
    """
    And stock.reserve answers lost for ever
    When the workflow is executed
    Then the workflow should fault
    And stock.reserve should be called at 0s, 4s, 8s

  Scenario: The longest delay caps an exponential backoff
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - reserve: { call: stock.reserve }
          catch:
            retry:
              delay: PT1S
              backoff: { exponential: { factor: 10, max: PT20S } }
              limit: { attempt: { count: 3 } }
    """
    And stock.reserve answers lost for ever
    When the workflow is executed
    Then stock.reserve should be called at 0s, 1s, 11s, 31s

  Scenario: A condition on the error decides whether to try again
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - reserve: { call: stock.reserve }
          catch: { retry: { when: '${ $error.status == 503 }', delay: PT1S, limit: { attempt: { count: 5 } } } }
    """
    And stock.reserve answers refused 503, then refused 400
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    status: 400
    """
    And stock.reserve should be called 2 times

  Scenario: A reply that comes after its attempt was given up is ignored
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - reserve: { call: stock.reserve }
          catch: { retry: { delay: PT1S, limit: { attempt: { count: 3, duration: PT5S } } } }
    """
    And stock.reserve answers never, then ok {"id": 2}
    When the workflow starts
    And 5s pass
    Then stock.reserve should be called once
    When 1s pass
    Then the workflow should complete with output:
    """yaml
    id: 2
    """
    When stock.reserve is answered late with ok {"id": 1}
    Then stock.reserve should be called at 0s, 6s

  Scenario: A crash while waiting for the next attempt changes nothing
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - reserve: { call: stock.reserve }
          catch: { retry: { delay: PT10S, limit: { attempt: { count: 3 } } } }
    """
    And stock.reserve answers refused, then ok
    When the workflow starts
    And 4s pass
    And the engine crashes
    And 4s pass
    Then stock.reserve should be called once
    When 2s pass
    Then the workflow should complete
    And stock.reserve should be called at 0s, 10s
