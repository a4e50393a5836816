Feature: Functions of catalogues
  As the author of many workflows
  I want to keep functions and schemas in one place
  So that every workflow calls the same one

  Scenario: A function of the default catalogue is called by name and version
    Given the document at catalog://default/functions/greet/1.0.0/function.yaml is:
    """yaml
    input: { schema: { document: { type: object, required: [ name ] } } }
    set: { text: '${ "Hello, \(.name)" }' }
    """
    And a workflow with definition:
    """yaml
    do:
      - hello: { call: 'greet:1.0.0@default', with: { name: '${ .who }' } }
    """
    And given the workflow input is:
    """yaml
    who: Ada
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    text: Hello, Ada
    """

  Scenario: A function refuses arguments that do not match its schema
    Given the document at https://functions.example/greet.yaml is:
    """yaml
    input: { schema: { document: { type: object, required: [ name ] } } }
    set: { text: '${ .name }' }
    """
    And a workflow with definition:
    """yaml
    do:
      - attempt:
          try:
            - hello: { call: 'https://functions.example/greet.yaml', with: { nome: Ada } }
          catch:
            as: problem
            do: [ { note: { set: { type: '${ $problem.type | split("/") | last }', status: '${ $problem.status }' } } } ]
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    { type: validation, status: 400 }
    """

  Scenario: A function of a catalogue in a repository is read where its text is
    Given the document at https://raw.githubusercontent.com/shop/catalog/refs/heads/main/functions/greet/1.0.0/function.yaml is:
    """yaml
    call: greeter.greet
    with: { to: '${ .name }' }
    """
    And a workflow with definition:
    """yaml
    use: { catalogs: { shop: { endpoint: { uri: 'https://github.com/shop/catalog/tree/main' } } } }
    do:
      - hello: { call: 'greet:1.0.0@shop', with: { name: Ada } }
    """
    When the workflow is executed
    Then greeter.greet should be called with:
    """yaml
    to: Ada
    """
    And greeter.greet should be called with the key i/do/0/hello/greet

  Scenario: A function brings its undo along
    Given the document at https://functions.example/reserve.yaml is:
    """yaml
    call: stock.reserve
    compensate: { call: stock.release }
    """
    And a workflow with definition:
    """yaml
    do:
      - take: { call: 'https://functions.example/reserve.yaml' }
      - pay: { call: payments.charge }
    """
    And payments.charge answers refused
    When the workflow is executed
    Then the saga should be compensated
    And the calls should be stock.reserve, payments.charge, stock.release

  Scenario: A schema stands elsewhere
    Given the document at https://schemas.example/order.json is:
    """yaml
    { "type": "object", "required": [ "sku" ] }
    """
    And a workflow with definition:
    """yaml
    input: { schema: { resource: { endpoint: 'https://schemas.example/order.json' } } }
    do:
      - take: { call: stock.reserve }
    """
    When the workflow is executed
    Then the workflow should fault
    And nothing should be called

  Scenario: A mistake in a function refuses the definition
    Given the document at https://functions.example/broken.yaml is:
    """yaml
    cal: stock.reserve
    """
    And a workflow with definition:
    """yaml
    do:
      - take: { call: 'https://functions.example/broken.yaml' }
    """
    Then the definition should be refused

  Scenario: Functions that call each other in a circle are refused
    Given the document at https://functions.example/a.yaml is:
    """yaml
    call: https://functions.example/b.yaml
    """
    And the document at https://functions.example/b.yaml is:
    """yaml
    call: https://functions.example/a.yaml
    """
    And a workflow with definition:
    """yaml
    do:
      - round: { call: 'https://functions.example/a.yaml' }
    """
    Then the definition should be refused
