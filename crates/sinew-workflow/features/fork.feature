Feature: Fork
  As the author of a workflow
  I want branches to run at the same time
  So that independent work does not wait for each other

  Scenario: Branches begin together and their outputs are joined in their order
    Given a workflow with definition:
    """yaml
    do:
      - both:
          fork:
            branches:
              - slow: { do: [ { pause: { wait: PT5S } }, { one: { set: { n: 1 } } } ] }
              - fast: { do: [ { two: { set: { n: 2 } } } ] }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    - n: 1
    - n: 2
    """
    And the workflow should have ended after 5s

  Scenario: Each branch gets the input of the fork
    Given a workflow with definition:
    """yaml
    do:
      - both:
          fork:
            branches:
              - left: { set: { got: '${ .n }', side: left } }
              - right: { set: { got: '${ .n }', side: right } }
    """
    And given the workflow input is:
    """yaml
    n: 7
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    - { got: 7, side: left }
    - { got: 7, side: right }
    """

  Scenario: The first of competing branches wins and the others stop
    Given a workflow with definition:
    """yaml
    do:
      - race:
          fork:
            compete: true
            branches:
              - slow: { do: [ { nap: { wait: PT5S } }, { late: { call: mail.late } } ] }
              - fast: { do: [ { blink: { wait: PT1S } }, { early: { call: mail.early } } ] }
      - after: { call: mail.after }
    """
    And mail.early answers ok {"winner": "fast"}
    When the workflow is executed
    Then the workflow should complete
    And the calls should be mail.early, mail.after
    And mail.after should be called with:
    """yaml
    winner: fast
    """

  Scenario: An error in one branch ends the others
    Given a workflow with definition:
    """yaml
    do:
      - both:
          fork:
            branches:
              - slow: { do: [ { nap: { wait: PT5S } }, { late: { call: mail.late } } ] }
              - bad: { raise: { error: { type: 'https://example.com/errors/bad', status: 418 } } }
    """
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    status: 418
    instance: /do/0/both/fork/branches/1/bad
    """
    And nothing should be called

  Scenario: An error in one branch can be caught around the fork
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - both:
                fork:
                  branches:
                    - slow: { call: mail.slow }
                    - bad: { call: mail.bad }
          catch:
            do:
              - instead: { set: { caught: '${ $error.status }' } }
    """
    And mail.slow answers never
    And mail.bad answers refused 418
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    caught: 418
    """
    When mail.slow is answered late with ok
    Then the workflow should be completed

  Scenario: Calls of branches are in flight at the same time
    Given a workflow with definition:
    """yaml
    do:
      - both:
          fork:
            branches:
              - left: { call: mail.left }
              - right: { call: mail.right }
    """
    And mail.left answers never
    And mail.right answers never
    When the workflow starts
    Then the calls should be mail.left, mail.right
    When mail.right is answered with ok {"n": 2}
    And the engine crashes
    And mail.left is answered with ok {"n": 1}
    Then the workflow should complete with output:
    """yaml
    - n: 1
    - n: 2
    """

  Scenario: A branch that ends the workflow ends the other branches
    Given a workflow with definition:
    """yaml
    do:
      - both:
          fork:
            branches:
              - slow: { do: [ { nap: { wait: PT5S } }, { late: { call: mail.late } } ] }
              - done: { set: { early: true }, then: end }
      - never: { call: mail.never }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    early: true
    """
    And nothing should be called
