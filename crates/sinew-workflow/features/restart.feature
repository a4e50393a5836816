Feature: Restart
  As an operator
  I want a crash to lose nothing and to repeat nothing but what is open
  So that I can restart whatever I like

  Scenario: A call whose reply was not recorded is repeated with its key
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve }
      - charge: { call: pay.charge }
    """
    And pay.charge answers never
    When the workflow starts
    And the engine crashes
    And pay.charge is answered with ok {"paid": true}
    Then the workflow should complete with output:
    """yaml
    paid: true
    """
    And stock.reserve should be called once
    And pay.charge should be called with one key

  Scenario: A crash in the middle of undoing goes on where it was
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge, compensate: { call: pay.refund } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And stock.release answers never
    When the workflow starts
    And the engine crashes
    Then the saga should be compensating
    When stock.release is answered with ok
    Then the saga should be compensated
    And pay.refund should be called once

  Scenario: A crash while a saga is stuck leaves it stuck
    Given a workflow with definition:
    """yaml
    saga: { retry: { limit: { attempt: { count: 0 } } } }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And stock.release answers refused, then ok
    When the workflow starts
    And the engine crashes
    And 30d pass
    Then the saga should be stuck
    When the operator retries
    Then the saga should be compensated

  Scenario: A crash between iterations keeps what the loop has
    Given a workflow with definition:
    """yaml
    do:
      - every:
          for: { each: n, in: .list }
          do:
            - ask: { call: math.ask, with: { n: '${ $n }' } }
            - pause: { wait: PT1M }
    """
    And given the workflow input is:
    """yaml
    list: [ 1, 2, 3 ]
    """
    When the workflow starts
    And 90s pass
    And the engine crashes
    And 10m pass
    Then math.ask should be called at 0s, 1m, 2m
    And math.ask should be called with:
    """yaml
    n: 3
    """
    And the workflow should have ended after 3m

  Scenario: An ended workflow stays as it is
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve }
    """
    When the workflow is executed
    And the engine crashes
    And stock.reserve is answered late with refused
    And the workflow is cancelled
    And 1d pass
    Then the workflow should complete
    And stock.reserve should be called once
