Feature: For
  As the author of a workflow
  I want to do the same for every item of a list
  So that the length of the list does not matter

  Scenario: Each item gets calls and keys of its own
    Given a workflow with definition:
    """yaml
    do:
      - every:
          for: { each: sku, in: .skus }
          do:
            - reserve: { call: stock.reserve, with: { sku: '${ $sku }', at: '${ $index }' } }
    """
    And given the workflow input is:
    """yaml
    skus: [ shoe, hat, sock ]
    """
    When the workflow is executed
    Then the workflow should complete
    And stock.reserve should be called 3 times
    And stock.reserve should be called with 3 different keys
    And stock.reserve should be called with:
    """yaml
    sku: sock
    at: 2
    """

  Scenario: An empty list and no list at all run nothing
    Given a workflow with definition:
    """yaml
    do:
      - none: { for: { in: .missing }, do: [ { reserve: { call: stock.reserve } } ] }
      - empty: { for: { in: .list }, do: [ { reserve: { call: stock.reserve } } ] }
    """
    And given the workflow input is:
    """yaml
    list: []
    """
    When the workflow is executed
    Then the workflow should complete
    And nothing should be called

  Scenario: Something that is no list is an error
    Given a workflow with definition:
    """yaml
    do:
      - wrong: { for: { in: .list }, do: [ { reserve: { call: stock.reserve } } ] }
    """
    And given the workflow input is:
    """yaml
    list: 5
    """
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    type: https://open-workflow-specification.org/spec/1.0.0/errors/expression
    instance: /do/0/wrong
    """

  Scenario: A loop goes on while its condition holds
    Given a workflow with definition:
    """yaml
    do:
      - some:
          for: { each: n, in: '[1, 2, 3, 4]' }
          while: '${ $n < 3 }'
          do:
            - add: { set: { sum: '${ (.sum // 0) + $n }' } }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    sum: 3
    """

  Scenario: The output of an iteration is the input of the next
    Given a workflow with definition:
    """yaml
    do:
      - some:
          for: { in: '[1, 2, 3]' }
          do:
            - add: { set: { list: '${ (.list // []) + [$item] }' } }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    list: [ 1, 2, 3 ]
    """

  Scenario: Loops nest and their variables do not mix
    Given a workflow with definition:
    """yaml
    do:
      - rows:
          for: { each: row, in: '["a", "b"]', at: i }
          do:
            - columns:
                for: { each: column, in: '[1, 2]', at: j }
                do:
                  - cell: { set: { cells: '${ (.cells // []) + ["\($row)\($column):\($i)\($j)"] }' } }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    cells: [ 'a1:00', 'a2:01', 'b1:10', 'b2:11' ]
    """

  Scenario: The list is fixed when the loop begins
    Given a workflow with definition:
    """yaml
    do:
      - every:
          for: { in: .list }
          do:
            - change: { set: { list: [ 9, 9, 9, 9 ], seen: '${ (.seen // []) + [$item] }' } }
    """
    And given the workflow input is:
    """yaml
    list: [ 1, 2 ]
    """
    When the workflow is executed
    Then the workflow output should have a 'seen' property with value:
    """yaml
    [ 1, 2 ]
    """

  Scenario: An error in an iteration ends the loop
    Given a workflow with definition:
    """yaml
    do:
      - every:
          for: { in: '[1, 2, 3]' }
          do:
            - reserve: { call: stock.reserve }
    """
    And stock.reserve answers ok, then refused
    When the workflow is executed
    Then the workflow should fault
    And stock.reserve should be called 2 times
