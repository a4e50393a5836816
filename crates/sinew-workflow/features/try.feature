Feature: Try
  As the author of a workflow
  I want to say which errors I expect and what to do instead
  So that only what I did not expect ends the workflow

  Scenario: An error that the filter does not match passes through
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try: [ { reserve: { call: stock.reserve } } ]
          catch:
            errors: { with: { status: 404 } }
            do: [ { instead: { set: { caught: true } } } ]
    """
    And stock.reserve answers refused 409
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    status: 409
    """
    And instead should not run

  Scenario: The error is seen under its name and its code is there
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try: [ { reserve: { call: stock.reserve } } ]
          catch:
            as: problem
            do: [ { instead: { set: { code: '${ $problem.code }', where: '${ $problem.instance }' } } } ]
    """
    And stock.reserve answers refused 409 out-of-stock
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    code: out-of-stock
    where: /do/0/attempt/try/0/reserve
    """

  Scenario: The inner of two tries is asked first
    Given a workflow with definition:
    """yaml
    do:
      - outer:
          try:
            - inner:
                try: [ { reserve: { call: stock.reserve } } ]
                catch:
                  errors: { with: { status: 404 } }
                  do: [ { no: { set: { by: inner } } } ]
          catch:
            do: [ { yes: { set: { by: outer } } } ]
    """
    And stock.reserve answers refused 409
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    by: outer
    """

  Scenario: An error in a handler is not caught by its own try
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try: [ { reserve: { call: stock.reserve } } ]
          catch:
            do: [ { worse: { raise: { error: { type: 'https://example.com/worse', status: 599 } } } } ]
    """
    And stock.reserve answers refused
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    status: 599
    instance: /do/0/attempt/catch/do/0/worse
    """

  Scenario: A condition decides whether an error is caught
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try: [ { reserve: { call: stock.reserve } } ]
          catch:
            exceptWhen: '${ $error.status >= 500 }'
            do: [ { instead: { set: { caught: true } } } ]
    """
    And stock.reserve answers refused 503
    When the workflow is executed
    Then the workflow should fault

  Scenario: What a handler says comes next is what comes next
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try: [ { reserve: { call: stock.reserve } } ]
          catch: { then: apologise }
      - ship: { call: ship.book, then: end }
      - apologise: { call: mail.sorry }
    """
    And stock.reserve answers refused
    When the workflow is executed
    Then the workflow should complete
    And the calls should be stock.reserve, mail.sorry

  Scenario: An expression that fails is an error like any other
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try: [ { compute: { set: { n: '${ .text + 1 }' } } } ]
          catch:
            errors: { with: { type: 'https://open-workflow-specification.org/spec/1.0.0/errors/expression' } }
            do: [ { instead: { set: { caught: true } } } ]
    """
    And given the workflow input is:
    """yaml
    text: seven
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    caught: true
    """

  Scenario: Work before the error is not repeated by a handler
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - first: { call: stock.first }
            - second: { call: stock.second }
          catch: { do: [ { instead: { call: stock.instead } } ] }
    """
    And stock.second answers refused
    When the workflow is executed
    Then the workflow should complete
    And the calls should be stock.first, stock.second, stock.instead
