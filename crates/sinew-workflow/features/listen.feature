Feature: Listen
  As the author of a workflow
  I want tasks to wait for events
  So that an instance goes on when something happened elsewhere

  Scenario: One event is the output, in a list
    Given a workflow with definition:
    """yaml
    do:
      - wait: { listen: { to: { one: { with: { type: order.paid } } } } }
    """
    When the workflow starts
    Then the task wait should be waiting
    When an event arrives:
    """yaml
    type: order.paid
    data: { order: 7 }
    """
    Then the workflow should complete with output:
    """yaml
    - order: 7
    """

  Scenario: An event that passes no filter changes nothing
    Given a workflow with definition:
    """yaml
    do:
      - wait: { listen: { to: { one: { with: { type: order.paid, data: '${ .order == 7 }' } } } } }
    """
    When the workflow starts
    When an event arrives:
    """yaml
    type: order.paid
    data: { order: 8 }
    """
    Then the workflow should be running
    When an event arrives:
    """yaml
    type: order.paid
    data: { order: 7 }
    """
    Then the workflow should complete with output:
    """yaml
    - order: 7
    """

  Scenario: Any of several events goes on
    Given a workflow with definition:
    """yaml
    do:
      - wait: { listen: { to: { any: [ { with: { type: a } }, { with: { type: b } } ] } } }
    """
    When the workflow starts
    When an event arrives:
    """yaml
    type: b
    data: 2
    """
    Then the workflow should complete with output:
    """yaml
    - 2
    """

  Scenario: All events are waited for, in any order
    Given a workflow with definition:
    """yaml
    do:
      - wait: { listen: { to: { all: [ { with: { type: a } }, { with: { type: b } } ] } } }
    """
    When the workflow starts
    When an event arrives:
    """yaml
    type: b
    data: 2
    """
    Then the workflow should be running
    When an event arrives:
    """yaml
    type: b
    data: 3
    """
    And an event arrives:
    """yaml
    type: a
    data: 1
    """
    Then the workflow should complete with output:
    """yaml
    - 2
    - 1
    """

  Scenario: Events that belong together have the same key
    Given a workflow with definition:
    """yaml
    do:
      - wait:
          listen:
            to:
              all:
                - { with: { type: heat }, correlate: { room: { from: .data.room } } }
                - { with: { type: damp }, correlate: { room: { from: .data.room } } }
    """
    When the workflow starts
    When an event arrives:
    """yaml
    type: heat
    data: { room: 1 }
    """
    And an event arrives:
    """yaml
    type: damp
    data: { room: 2 }
    """
    Then the workflow should be running
    When an event arrives:
    """yaml
    type: damp
    data: { room: 1, percent: 60 }
    """
    Then the workflow should complete with output:
    """yaml
    - room: 1
    - room: 1
      percent: 60
    """

  Scenario: A key can be expected
    Given a workflow with definition:
    """yaml
    do:
      - wait: { listen: { to: { one: { with: { type: paid }, correlate: { order: { from: .data.order, expect: '${ .order }' } } } } } }
    """
    And given the workflow input is:
    """yaml
    order: 7
    """
    When the workflow starts
    When an event arrives:
    """yaml
    type: paid
    data: { order: 6 }
    """
    Then the workflow should be running
    When an event arrives:
    """yaml
    type: paid
    data: { order: 7 }
    """
    Then the workflow should complete with output:
    """yaml
    - order: 7
    """

  Scenario: Events are collected until it is enough
    Given a workflow with definition:
    """yaml
    do:
      - wait: { listen: { to: { any: [], until: '( . | length ) == 2' } } }
    """
    When the workflow starts
    When an event arrives:
    """yaml
    type: a
    data: 1
    """
    Then the workflow should be running
    When an event arrives:
    """yaml
    type: b
    data: 2
    """
    Then the workflow should complete with output:
    """yaml
    - 1
    - 2
    """

  Scenario: Events are collected until another one says stop
    Given a workflow with definition:
    """yaml
    do:
      - wait: { listen: { to: { any: [ { with: { type: a } } ], until: { one: { with: { type: stop } } } } } }
    """
    When the workflow starts
    When an event arrives:
    """yaml
    type: a
    data: 1
    """
    And an event arrives:
    """yaml
    type: a
    data: 2
    """
    And an event arrives:
    """yaml
    type: stop
    data: 3
    """
    Then the workflow should complete with output:
    """yaml
    - 1
    - 2
    """

  Scenario: Each event has its tasks, one after the other
    Given a workflow with definition:
    """yaml
    do:
      - wait:
          listen: { to: { any: [ { with: { type: a } } ], until: { one: { with: { type: stop } } } } }
          foreach:
            item: event
            do: [ { store: { call: db.put, with: { value: '${ $event }' } } } ]
            output: { as: .id }
    """
    And db.put answers never, then ok {"id": 2}
    When the workflow starts
    When an event arrives:
    """yaml
    type: a
    data: 1
    """
    And an event arrives:
    """yaml
    type: a
    data: 2
    """
    And an event arrives:
    """yaml
    type: stop
    data: 0
    """
    Then db.put should be called once
    When db.put is answered with ok {"id": 1}
    Then db.put should be called with:
    """yaml
    value: 2
    """
    Then the workflow should complete with output:
    """yaml
    - 1
    - 2
    """

  Scenario: The envelope can be read
    Given a workflow with definition:
    """yaml
    do:
      - wait: { listen: { to: { any: [] }, read: envelope } }
    """
    When the workflow starts
    When an event arrives:
    """yaml
    type: a
    data: 1
    """
    Then the workflow should complete with output:
    """yaml
    - type: a
      data: 1
    """

  Scenario: Listening has a timeout
    Given a workflow with definition:
    """yaml
    do:
      - wait: { listen: { to: { any: [] } }, timeout: { after: PT1H } }
    """
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    status: 408
    """
    And the workflow should have ended after 1h
