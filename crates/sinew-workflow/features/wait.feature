Feature: Wait
  As the author of a workflow
  I want to pause for a length of time
  So that later work happens when it should, whatever happens in between

  Scenario: The next task runs when the time is over
    Given a workflow with definition:
    """yaml
    do:
      - pause: { wait: PT1H }
      - remind: { call: mail.send }
    """
    When the workflow starts
    Then the task pause should be waiting
    When 59m pass
    Then nothing should be called
    When 1m pass
    Then mail.send should be called at 1h
    And the workflow should complete

  Scenario: A pause written in parts has their sum
    Given a workflow with definition:
    """yaml
    do:
      - pause: { wait: { hours: 1, minutes: 2, seconds: 3, milliseconds: 4 } }
      - remind: { call: mail.send }
    """
    When the workflow is executed
    Then mail.send should be called at 3723004ms

  Scenario: A pause passes its input on
    Given a workflow with definition:
    """yaml
    do:
      - pause: { wait: PT1S }
    """
    And given the workflow input is:
    """yaml
    kept: true
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    kept: true
    """

  Scenario: A crash in the middle of a pause does not begin it again
    Given a workflow with definition:
    """yaml
    do:
      - pause: { wait: PT10S }
      - remind: { call: mail.send }
    """
    When the workflow starts
    And 6s pass
    And the engine crashes
    And the engine crashes
    And 4s pass
    Then mail.send should be called at 10s

  Scenario: A pause that a crash outlasted ends at once
    Given a workflow with definition:
    """yaml
    do:
      - pause: { wait: PT10S }
      - more: { wait: PT10S }
      - remind: { call: mail.send }
    """
    When the workflow starts
    And the engine crashes
    And 1h pass
    Then mail.send should be called at 20s

  Scenario: A cancel ends a pause
    Given a workflow with definition:
    """yaml
    do:
      - pause: { wait: PT10S }
      - remind: { call: mail.send }
    """
    When the workflow starts
    And 5s pass
    And the workflow is cancelled
    Then the workflow should be cancelled
    And the workflow should have ended after 5s
    When 1h pass
    Then nothing should be called
