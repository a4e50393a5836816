Feature: Extensions
  As somebody responsible for many workflows
  I want to run tasks around others without touching those
  So that logging, mocks and checks are written once

  Scenario: Tasks run before and after, the first extension outermost
    Given a workflow with definition:
    """yaml
    use:
      extensions:
        - log: { extend: all, before: [ { begin: { call: log.begin } } ], after: [ { done: { call: log.done } } ] }
        - trace: { extend: call, before: [ { open: { call: trace.open } } ], after: [ { close: { call: trace.close } } ] }
    do:
      - take: { call: stock.reserve }
      - note: { set: { x: 1 } }
    """
    When the workflow is executed
    Then the calls should be log.begin, trace.open, stock.reserve, trace.close, log.done, log.begin, log.done

  Scenario: What an extension puts out changes no data
    Given a workflow with definition:
    """yaml
    use: { extensions: [ { log: { extend: set, before: [ { a: { call: log.write } } ], after: [ { b: { call: log.write } } ] } } ] }
    do:
      - one: { set: { n: '${ .n + 1 }' } }
      - two: { set: { n: '${ .n + 1 }' } }
    """
    And given the workflow input is:
    """yaml
    n: 1
    """
    And log.write answers ok { n: 100 } for ever
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    n: 3
    """

  Scenario: A mock takes the place of a task
    Given a workflow with definition:
    """yaml
    use:
      extensions:
        - mock:
            extend: call
            when: $task.call == "http" and ($task.with.endpoint | startswith("https://mocked."))
            before:
              - answer: { set: { statusCode: 200, content: { foo: bar } }, then: exit }
    do:
      - real: { call: http, with: { method: get, endpoint: 'https://real.example' } }
      - fake: { call: http, with: { method: get, endpoint: 'https://mocked.example' } }
    """
    And http answers ok { foo: real }
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    { statusCode: 200, content: { foo: bar } }
    """
    And http should be called once

  Scenario: Leaving after the task replaces its output
    Given a workflow with definition:
    """yaml
    use: { extensions: [ { stamp: { extend: call, after: [ { add: { set: '${ . + { stamped: true } }', then: exit } } ] } } ] }
    do:
      - take: { call: stock.reserve }
    """
    And stock.reserve answers ok { id: 1 }
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    { id: 1, stamped: true }
    """

  Scenario: Its tasks describe the task they extend
    Given a workflow with definition:
    """yaml
    use:
      extensions:
        - log: { extend: set, before: [ { tell: { call: log.write, with: { at: '${ $task.reference }', name: '${ $task.name }', given: '${ $task.input }' } } } ] }
    do:
      - shape: { set: { kind: circle } }
    """
    And given the workflow input is:
    """yaml
    n: 1
    """
    When the workflow is executed
    Then log.write should be called with:
    """yaml
    { at: /do/0/shape, name: shape, given: { n: 1 } }
    """

  Scenario: Where a task leads survives what runs after it
    Given a workflow with definition:
    """yaml
    use: { extensions: [ { log: { extend: switch, after: [ { tell: { call: log.write } } ] } } ] }
    do:
      - choose: { switch: [ { big: { when: .n > 5, then: large } }, { other: { then: end } } ] }
      - small: { set: { size: small } }
      - large: { set: { size: large } }
    """
    And given the workflow input is:
    """yaml
    n: 9
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    size: large
    """
    And small should not run
    And log.write should be called once

  Scenario: A skipped task is not extended
    Given a workflow with definition:
    """yaml
    use: { extensions: [ { log: { extend: call, before: [ { tell: { call: log.write } } ] } } ] }
    do:
      - take: { if: .wanted, call: stock.reserve }
    """
    When the workflow is executed
    Then nothing should be called
    And the task take should be skipped

  Scenario: The undo of an extended task is not extended
    Given a workflow with definition:
    """yaml
    use: { extensions: [ { log: { extend: call, before: [ { tell: { call: log.write, compensate: false } } ] } } ] }
    do:
      - take: { call: stock.reserve, compensate: { call: stock.release } }
      - pay: { call: payments.charge, compensate: false }
    """
    And payments.charge answers refused
    When the workflow is executed
    Then the saga should be compensated
    And the calls should be log.write, stock.reserve, log.write, payments.charge, stock.release

  Scenario: A refused extension is an error of the task
    Given a workflow with definition:
    """yaml
    use: { extensions: [ { guard: { extend: call, before: [ { ask: { call: policy.check } } ] } } ] }
    do:
      - take: { call: stock.reserve }
    """
    And policy.check answers refused 403
    When the workflow is executed
    Then the workflow should fault
    And stock.reserve should not be called

  Scenario: Every iteration and every retry is extended
    Given a workflow with definition:
    """yaml
    use: { extensions: [ { log: { extend: call, before: [ { tell: { call: log.write } } ] } } ] }
    do:
      - each:
          for: { in: '[1, 2]' }
          do:
            - attempt:
                try: [ { take: { call: stock.reserve } } ]
                catch: { retry: { limit: { attempt: { count: 1 } } } }
    """
    And stock.reserve answers refused, then ok, then ok
    When the workflow is executed
    Then the workflow should complete
    And the calls should be log.write, stock.reserve, log.write, stock.reserve, log.write, stock.reserve
    And stock.reserve should be called with 2 different keys
