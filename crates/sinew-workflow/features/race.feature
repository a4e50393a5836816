Feature: Race
  As the author of a saga
  I want the losers of a race to be undone at once
  So that nothing is held that nobody will use

  Scenario: What lost is undone while the work goes on
    Given a workflow with definition:
    """yaml
    do:
      - first: { call: a.first, compensate: { call: a.unfirst } }
      - race:
          fork:
            compete: true
            branches:
              - left: { call: a.left, compensate: { call: a.unleft } }
              - right: { call: a.right, compensate: { call: a.unright } }
      - next: { call: a.next }
    """
    And a.left answers never
    And a.next answers never
    When the workflow is executed
    Then the workflow should be running
    And the saga should be none
    And only left should be undone in this order
    And a.unright should not be called
    When a.next is answered with ok
    Then the workflow should complete
    And the saga should be committed

  Scenario: What won is undone with the rest
    Given a workflow with definition:
    """yaml
    do:
      - first: { call: a.first, compensate: { call: a.unfirst } }
      - race:
          fork:
            compete: true
            branches:
              - left: { call: a.left, compensate: { call: a.unleft } }
              - right: { call: a.right, compensate: { call: a.unright } }
      - next: { call: a.next }
    """
    And a.left answers never
    And a.next answers refused
    When the workflow is executed
    Then the saga should be compensated
    And a.unleft should be called once
    And a.unright should be called once
    And a.unfirst should be called once

  Scenario: A loser that cannot be undone waits for an operator, and the work does not
    Given a workflow with definition:
    """yaml
    saga: { retry: { limit: { attempt: { count: 0 } } } }
    do:
      - first: { call: a.first, compensate: { call: a.unfirst } }
      - race:
          fork:
            compete: true
            branches:
              - left: { call: a.left, compensate: { call: a.unleft } }
              - right: { call: a.right, compensate: { call: a.unright } }
      - next: { call: a.next }
    """
    And a.left answers never
    And a.unleft answers refused
    When the workflow is executed
    Then the workflow should complete
    And the saga should be stuck
    When the operator skips
    Then the saga should be committed

  Scenario: A retried race has new keys for what lost
    Given a workflow with definition:
    """yaml
    do:
      - again:
          try:
          - race:
              fork:
                compete: true
                branches:
                  - left: { call: a.left, compensate: { call: a.unleft } }
                  - right: { call: a.right, compensate: { call: a.unright } }
          - next: { call: a.next }
          catch: { retry: { limit: { attempt: { count: 1 } } } }
    """
    And a.left answers never, then never
    And a.next answers refused, then ok
    When the workflow is executed
    Then the workflow should complete
    And a.unleft should be called with 2 different keys
    And a.right should be called with one key
    And a.unleft should be called 2 times
