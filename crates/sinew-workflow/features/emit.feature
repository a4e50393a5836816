Feature: Emit
  As the author of a workflow
  I want to publish events
  So that others learn what happened, once

  Scenario: An event is complete without my saying much
    Given a workflow with definition:
    """yaml
    do:
      - tell:
          emit: { event: { with: { type: order.placed, data: { order: '${ .order }' } } } }
    """
    And given the workflow input is:
    """yaml
    order: 7
    """
    When the workflow is executed
    Then the workflow should complete
    And event order.placed should be called once
    And event order.placed should be called with:
    """yaml
    specversion: '1.0'
    id: i/do/0/tell
    source: /workflows/test/test
    type: order.placed
    time: '1970-01-01T00:00:01.000Z'
    data: { order: 7 }
    """

  Scenario: An event that could not be stored is published again under the same id
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try: [ { tell: { emit: { event: { with: { type: order.placed } } } } } ]
          catch: { retry: { delay: PT1S, limit: { attempt: { count: 3 } } } }
    """
    And event order.placed answers lost, then nobody, then ok
    When the workflow is executed
    Then the workflow should complete
    And event order.placed should be called 3 times
    And event order.placed should be called with one key

  Scenario: The id of an event may be mine
    Given a workflow with definition:
    """yaml
    do:
      - tell: { emit: { event: { with: { type: order.placed, id: '${ "order-\(.order)" }' } } } }
    """
    And given the workflow input is:
    """yaml
    order: 7
    """
    When the workflow is executed
    Then event order.placed should be called with the key order-7

  Scenario: The same event in a loop is another event each time
    Given a workflow with definition:
    """yaml
    do:
      - every:
          for: { in: '[1, 2]' }
          do: [ { tell: { emit: { event: { with: { type: item.seen } } } } } ]
    """
    When the workflow is executed
    Then event item.seen should be called with 2 different keys

  Scenario: An event that nothing stores faults the workflow
    Given a workflow with definition:
    """yaml
    do:
      - tell: { emit: { event: { with: { type: order.placed } } } }
    """
    And event order.placed answers nobody
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    instance: /do/0/tell
    """
