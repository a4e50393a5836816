Feature: Timeout
  As the author of a workflow
  I want tasks and workflows to end in time, or to fail with an error I can catch
  So that nobody waits for ever

  Scenario: A task that takes too long raises a timeout error
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, timeout: { after: PT5S } }
    """
    And stock.reserve answers never
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    type: https://open-workflow-specification.org/spec/1.0.0/errors/timeout
    status: 408
    instance: /do/0/reserve
    """
    And the workflow should have ended after 5s

  Scenario: The timeout of a task is how long its call may take
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, timeout: { after: PT5S } }
    """
    When the workflow is executed
    Then stock.reserve should wait 5s for its reply

  Scenario: A timeout error can be caught
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - reserve: { call: stock.reserve, timeout: { after: PT5S } }
          catch:
            errors: { with: { type: 'https://open-workflow-specification.org/spec/1.0.0/errors/timeout' } }
            do:
              - instead: { set: { late: true } }
    """
    And stock.reserve answers never
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    late: true
    """

  Scenario: The timeout of a composite ends everything inside
    Given a workflow with definition:
    """yaml
    do:
      - both:
          timeout: { after: PT3S }
          do:
            - first: { wait: PT2S }
            - second: { wait: PT2S }
      - never: { call: stock.reserve }
    """
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    status: 408
    instance: /do/0/both
    """
    And the workflow should have ended after 3s
    And nothing should be called

  Scenario: A timeout that is not reached does nothing
    Given a workflow with definition:
    """yaml
    do:
      - first: { wait: PT2S, timeout: { after: PT3S } }
      - second: { wait: PT2S }
    """
    When the workflow is executed
    Then the workflow should complete
    And the workflow should have ended after 4s

  Scenario: The deadline of the workflow ends it wherever it is
    Given a workflow with definition:
    """yaml
    timeout: { after: PT10S }
    do:
      - again: { wait: PT4S, then: again }
    """
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    status: 408
    instance: /
    """
    And the workflow should have ended after 10s

  Scenario: A reusable timeout may be computed
    Given a workflow with definition:
    """yaml
    use: { timeouts: { short: { after: '${ $input.patience }' } } }
    do:
      - reserve: { call: stock.reserve, timeout: short }
    """
    And given the workflow input is:
    """yaml
    patience: PT7S
    """
    And stock.reserve answers never
    When the workflow is executed
    Then the workflow should fault
    And the workflow should have ended after 7s

  Scenario: A crash does not extend a deadline
    Given a workflow with definition:
    """yaml
    timeout: { after: PT10S }
    do:
      - reserve: { call: stock.reserve }
    """
    And stock.reserve answers never
    When the workflow starts
    And 9s pass
    And the engine crashes
    And 999ms pass
    Then the workflow should be running
    When 1ms pass
    Then the workflow should be faulted
