Feature: Control
  As an operator
  I want to end and to pause instances
  So that what runs can be dealt with

  Scenario: Cancelling undoes
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - ship: { call: ship.book }
      - last: { set: { done: true } }
    """
    And ship.book answers never
    When the workflow starts
    And the workflow is cancelled
    Then the workflow should be cancelled
    And the saga should be compensated
    And stock.release should be called once

  Scenario: Terminating undoes nothing and says so
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - ship: { call: ship.book }
      - last: { set: { done: true } }
    """
    And ship.book answers never
    When the workflow starts
    And the workflow is terminated
    Then the workflow should be cancelled
    And the saga should be abandoned
    And stock.release should not be called
    And the compensation of reserve should be abandoned

  Scenario: Terminating ends undoing as well
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - ship: { call: ship.book }
      - last: { set: { done: true } }
    """
    And ship.book answers refused
    And stock.release answers never
    When the workflow starts
    And the workflow is terminated
    Then the workflow should be faulted
    And the saga should be abandoned

  Scenario: A paused instance keeps what comes in
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - ship: { call: ship.book }
      - last: { set: { done: true } }
    """
    And stock.reserve answers never
    When the workflow starts
    And the workflow is paused
    And stock.reserve is answered with ok
    Then ship.book should not be called
    When the workflow is resumed
    Then the workflow should complete

  Scenario: Time passes while paused, and nothing begins
    Given a workflow with definition:
    """yaml
    do:
      - rest: { wait: PT1M }
      - ship: { call: ship.book }
    """
    When the workflow starts
    And the workflow is paused
    And 2m pass
    Then ship.book should not be called
    When the workflow is resumed
    Then the workflow should complete
