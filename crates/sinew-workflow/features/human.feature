Feature: Human
  As the author of a workflow
  I want people to decide
  So that what a program may not do waits for somebody who may

  Scenario: The decision is the output
    Given a workflow with definition:
    """yaml
    do:
      - approve:
          call: human
          with: { title: Approve, schema: { type: object, required: [ approved ] } }
          timeout: { after: PT4H }
    """
    And human answers ok {"approved": true}
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    approved: true
    """

  Scenario: A person may take long, but not for ever
    Given a workflow with definition:
    """yaml
    do:
      - approve:
          call: human
          with: { title: Approve, schema: { type: object, required: [ approved ] } }
          timeout: { after: PT4H }
    """
    And human answers never
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    status: 408
    """
    And the workflow should have ended after 4h

  Scenario: A decision can lead elsewhere
    Given a workflow with definition:
    """yaml
    do:
      - approve:
          call: human
          with: { title: Approve, schema: { type: object, required: [ approved ] } }
          timeout: { after: PT4H }
          output: { as: '${ if .approved then . else error("rejected") end }' }
    """
    And human answers ok {"approved": false}
    When the workflow is executed
    Then the workflow should fault
