Feature: Children
  As the author of a workflow
  I want to run other workflows
  So that work is described once, and undone as a whole

  Scenario: The output of a child is the output of its task
    Given a workflow with definition:
    """yaml
    do:
      - ship: { run: { workflow: { namespace: shop, name: ship, version: '1.0.0', input: { order: '${ .order }' } } } }
    """
    And given the workflow input is:
    """yaml
    order: 7
    """
    And shop/ship@1.0.0 answers ok {"parcel": 1}
    When the workflow is executed
    Then shop/ship@1.0.0 should be called with:
    """yaml
    order: 7
    """
    And the workflow should complete with output:
    """yaml
    parcel: 1
    """

  Scenario: The fault of a child is the one of its task
    Given a workflow with definition:
    """yaml
    do:
      - ship: { run: { workflow: { namespace: shop, name: ship, version: '1.0.0', input: { order: '${ .order }' } } } }
      - pay: { call: pay.charge }
    """
    And shop/ship@1.0.0 answers refused 409 out-of-stock
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    status: 409
    code: out-of-stock
    instance: /do/0/ship
    """
    And the saga should be none

  Scenario: A completed child is undone with its parent
    Given a workflow with definition:
    """yaml
    do:
      - ship: { run: { workflow: { namespace: shop, name: ship, version: '1.0.0', input: { order: '${ .order }' } } } }
      - pay: { call: pay.charge }
    """
    And pay.charge answers refused 402
    When the workflow is executed
    Then the workflow should fault
    And the saga should be compensated
    And the calls should be shop/ship@1.0.0, pay.charge, undo shop/ship@1.0.0
    And undo shop/ship@1.0.0 should be called with the forward key i/do/0/ship

  Scenario: A child nobody heard of again is undone
    Given a workflow with definition:
    """yaml
    do:
      - ship: { run: { workflow: { namespace: shop, name: ship, version: '1.0.0', input: { order: '${ .order }' } } } }
      - pay: { call: pay.charge }
    """
    And shop/ship@1.0.0 answers lost
    When the workflow is executed
    Then the workflow should fault
    And only ship should be undone in this order

  Scenario: A child can be left as it is
    Given a workflow with definition:
    """yaml
    do:
      - ship: { run: { workflow: { namespace: shop, name: ship, version: '1.0.0', input: { order: '${ .order }' } } }, compensate: false }
      - pay: { call: pay.charge }
    """
    And pay.charge answers refused
    When the workflow is executed
    Then nothing should be undone

  Scenario: Nobody waits for a child that is not awaited
    Given a workflow with definition:
    """yaml
    do:
      - ship: { run: { workflow: { namespace: shop, name: ship, version: '1.0.0', input: { order: '${ .order }' } }, await: false } }
      - pay: { call: pay.charge }
    """
    And pay.charge answers refused
    When the workflow is executed
    Then the workflow should fault
    And nothing should be undone
