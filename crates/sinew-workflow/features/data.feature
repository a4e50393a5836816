Feature: Data flow
  As the author of a workflow
  I want to shape what goes in and out of tasks, and keep what is needed later
  So that tasks know nothing of each other

  Scenario: Data passes input.from, the task, output.as and export.as in this order
    Given a workflow with definition:
    """yaml
    do:
      - double:
          input: { from: '${ { n: .raw } }' }
          set: { n: '${ .n * 2 }', from: '${ $task.input.raw }' }
          output: { as: '${ { doubled: .n, from: .from } }' }
          export: { as: '${ { kept: .doubled } }' }
      - use: { set: { input: '${ . }', context: '${ $context }', start: '${ $workflow.input.raw }' } }
    """
    And given the workflow input is:
    """yaml
    raw: 21
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    input: { doubled: 42, from: 21 }
    context: { kept: 42 }
    start: 21
    """

  Scenario: The workflow transforms its own input and output
    Given a workflow with definition:
    """yaml
    input: { from: '${ .order }' }
    do:
      - price: { set: { total: '${ .quantity * 5 }' } }
    output: { as: .total }
    """
    And given the workflow input is:
    """yaml
    order: { quantity: 3 }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    15
    """

  Scenario: Input that does not match its schema faults before anything is done
    Given a workflow with definition:
    """yaml
    input:
      schema:
        document: { type: object, required: [ order ], properties: { order: { type: integer } } }
    do:
      - reserve: { call: stock.reserve }
    """
    And given the workflow input is:
    """yaml
    order: seven
    """
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    type: https://open-workflow-specification.org/spec/1.0.0/errors/validation
    status: 400
    """
    And nothing should be called

  Scenario: Output that does not match its schema is an error of the task that can be caught
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - reserve:
                call: stock.reserve
                output: { schema: { document: { type: object, required: [ id ] } } }
          catch:
            errors: { with: { type: 'https://open-workflow-specification.org/spec/1.0.0/errors/validation' } }
            do: [ { instead: { set: { where: '${ $error.instance }' } } } ]
    """
    And stock.reserve answers ok {"name": "no id"}
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    where: /do/0/attempt/try/0/reserve
    """

  Scenario: The context survives a crash and is seen everywhere
    Given a workflow with definition:
    """yaml
    do:
      - first: { call: stock.first, export: { as: '${ { order: .id } }' } }
      - pause: { wait: PT1H }
      - deep: { do: [ { second: { call: stock.second, with: { order: '${ $context.order }' } } } ] }
    """
    And stock.first answers ok {"id": 7}
    When the workflow starts
    And the engine crashes
    And 2h pass
    Then stock.second should be called with:
    """yaml
    order: 7
    """

  Scenario: Arguments of functions are their input
    Given a workflow with definition:
    """yaml
    use:
      functions:
        reserve: { call: stock.reserve, with: { sku: '${ .sku }', from: function } }
    do:
      - mine: { call: reserve, with: { sku: '${ .shoe }' } }
    """
    And given the workflow input is:
    """yaml
    shoe: 42
    """
    When the workflow is executed
    Then stock.reserve should be called with:
    """yaml
    sku: 42
    from: function
    """

  Scenario: A call without arguments sends its input
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve }
    """
    And given the workflow input is:
    """yaml
    sku: shoe
    """
    When the workflow is executed
    Then stock.reserve should be called with:
    """yaml
    sku: shoe
    """

  Scenario: An idempotency key of my own is used for every attempt
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - charge: { call: pay.charge, idempotencyKey: '${ "order-\(.order)" }' }
          catch: { retry: { delay: PT1S, limit: { attempt: { count: 2 } } } }
    """
    And given the workflow input is:
    """yaml
    order: 7
    """
    And pay.charge answers lost, then ok
    When the workflow is executed
    Then pay.charge should be called 2 times
    And pay.charge should be called with the key order-7
