Feature: Flow
  As the author of a workflow
  I want to say which task comes next
  So that the workflow does what my process does

  Scenario: A switch takes the first case that holds
    Given a workflow with definition:
    """yaml
    do:
      - choose:
          switch:
            - big: { when: .n > 10, then: large }
            - positive: { when: .n > 0, then: small }
            - other: { then: none }
      - large: { set: { size: large }, then: end }
      - small: { set: { size: small }, then: end }
      - none: { set: { size: none }, then: end }
    """
    And given the workflow input is:
    """yaml
    n: 11
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    size: large
    """

  Scenario: The default of a switch waits for all cases, wherever it stands
    Given a workflow with definition:
    """yaml
    do:
      - choose:
          switch:
            - other: { then: none }
            - positive: { when: .n > 0, then: small }
      - none: { set: { size: none }, then: end }
      - small: { set: { size: small }, then: end }
    """
    And given the workflow input is:
    """yaml
    n: 5
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    size: small
    """

  Scenario: A switch without a case that holds goes on
    Given a workflow with definition:
    """yaml
    do:
      - choose: { switch: [ { never: { when: 'false', then: end } } ] }
      - next: { set: { went: on } }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    went: on
    """

  Scenario: Exit leaves the list and the workflow goes on behind it
    Given a workflow with definition:
    """yaml
    do:
      - inner:
          do:
            - first: { set: { n: 1 }, then: exit }
            - skipped: { set: { n: 2 } }
      - after: { set: { n: '${ .n + 10 }' } }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    n: 11
    """
    And skipped should not run

  Scenario: End ends the workflow from within
    Given a workflow with definition:
    """yaml
    do:
      - inner: { do: [ { first: { set: { n: 1 }, then: end } } ] }
      - never: { call: stock.reserve }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    n: 1
    """
    And nothing should be called

  Scenario: A jump back repeats with new keys
    Given a workflow with definition:
    """yaml
    do:
      - poll: { call: jobs.poll }
      - ready:
          switch:
            - done: { when: .done, then: end }
            - later: { then: pause }
      - pause: { wait: PT5S, then: poll }
    """
    And jobs.poll answers ok {"done": false}, then ok {"done": false}, then ok {"done": true}
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    done: true
    """
    And jobs.poll should be called at 0s, 5s, 10s
    And jobs.poll should be called with 3 different keys

  Scenario: A task whose condition does not hold is passed over with its directive
    Given a workflow with definition:
    """yaml
    do:
      - skipped: { if: .wanted, set: { n: 1 }, then: end }
      - next: { set: { n: 2 } }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    n: 2
    """
    And the task skipped should be skipped

  Scenario: A jump that never waits ends in an error instead of running for ever
    Given a workflow with definition:
    """yaml
    do:
      - once: { set: { n: 1 } }
      - again: { switch: [ { always: { when: .n == 1, then: once } } ] }
    """
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    type: https://open-workflow-specification.org/spec/1.0.0/errors/runtime
    """
