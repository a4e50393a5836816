Feature: Evaluation of expressions
  As the author of a workflow
  I want to know which text is an expression, and what it sees
  So that data is never taken for code

  Scenario: Text is text unless it is marked
    Given a workflow with definition:
    """yaml
    do:
      - keep: { set: { plain: 1 + 1, marked: '${ 1 + 1 }', mixed: 'it is ${ 1 + 1 }' } }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    { plain: 1 + 1, marked: 2, mixed: it is 2 }
    """

  Scenario: Loose evaluation tries any text, and takes it literally when that fails
    Given a workflow with definition:
    """yaml
    evaluate: { mode: loose }
    do:
      - keep: { set: { sum: 1 + 1, field: .n, words: hello world, failing: .n.deep } }
    """
    And given the workflow input is:
    """yaml
    n: 3
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    { sum: 2, field: 3, words: hello world, failing: .n.deep }
    """

  Scenario: Data is never evaluated
    Given a workflow with definition:
    """yaml
    evaluate: { mode: loose }
    do:
      - keep: { set: { text: .text } }
    """
    And given the workflow input is:
    """yaml
    text: ${ $workflow.id }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    text: ${ $workflow.id }
    """

  Scenario: An argument is refused where it does not exist yet
    Given a workflow with definition:
    """yaml
    do:
      - keep: { if: '$input.n == 1', set: {} }
    """
    Then the definition should be refused

  Scenario: The context begins as the input of the workflow
    Given a workflow with definition:
    """yaml
    input: { from: .order }
    do:
      - keep: { set: { context: '${ $context }', raw: '${ $workflow.input }' } }
    """
    And given the workflow input is:
    """yaml
    order: { n: 1 }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    { context: { n: 1 }, raw: { order: { n: 1 } } }
    """

  Scenario: Another expression language is refused
    Given a workflow with definition:
    """yaml
    evaluate: { language: cel }
    do:
      - keep: { set: {} }
    """
    Then the definition should be refused
