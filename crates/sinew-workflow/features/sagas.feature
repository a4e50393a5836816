Feature: Sagas
  As the author of a workflow
  I want what was done to be undone when the whole cannot be done
  So that no customer is left with half an order

  # Point 1: what triggers.
  Scenario: An error nobody catches undoes what was done, the last first
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge, compensate: { call: pay.refund } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused 409 no-truck
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    status: 409
    code: no-truck
    instance: /do/2/ship
    """
    And the saga should be compensated
    And only charge, reserve should be undone in this order
    And the calls should be stock.reserve, pay.charge, ship.book, pay.refund, stock.release

  Scenario: The deadline of the workflow undoes what was done
    Given a workflow with definition:
    """yaml
    timeout: { after: PT10S }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - pause: { wait: PT1H }
    """
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    status: 408
    """
    And the saga should be compensated
    And stock.release should be called at 10s

  Scenario: A cancel undoes what was done
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - pause: { wait: PT1H }
    """
    When the workflow starts
    And 1m pass
    And the workflow is cancelled
    Then the workflow should be cancelled
    And the saga should be compensated
    And stock.release should be called at 1m

  Scenario: The workflow may ask to be undone
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - enough: { if: .bad, call: saga.compensate }
      - never: { call: ship.book }
    """
    And stock.reserve answers ok {"bad": true}
    When the workflow is executed
    Then the workflow should be faulted
    And the saga should be compensated
    And the calls should be stock.reserve, stock.release

  Scenario: A caught error by itself undoes nothing
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - attempt:
          try: [ { charge: { call: pay.charge, compensate: { call: pay.refund } } } ]
          catch: { do: [ { invoice: { call: pay.invoice } } ] }
    """
    And pay.charge answers refused 402
    When the workflow is executed
    Then the workflow should complete
    And the saga should be committed
    And nothing should be undone

  Scenario: The policy may leave a cancel without undoing
    Given a workflow with definition:
    """yaml
    saga: { on: [ fault, timeout ] }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - pause: { wait: PT1H }
    """
    When the workflow starts
    And the workflow is cancelled
    Then the workflow should be cancelled
    And nothing should be undone
    And stock.release should not be called

  # Point 2: what is eligible.
  Scenario: A definite refusal did nothing and is not undone
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
    """
    And stock.reserve answers refused 409
    When the workflow is executed
    Then the workflow should fault
    And stock.release should not be called
    And the task reserve should be refused

  Scenario: A call that reached nobody did nothing and is not undone
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
    """
    And stock.reserve answers nobody
    When the workflow is executed
    Then the workflow should fault
    And stock.release should not be called

  Scenario: A lost reply may have done something and is undone
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
    """
    And stock.reserve answers lost
    When the workflow is executed
    Then the workflow should fault
    And the task reserve should be unknown
    And only reserve should be undone in this order

  Scenario: A call in flight when the deadline comes is undone
    Given a workflow with definition:
    """yaml
    timeout: { after: PT5S }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
    """
    And stock.reserve answers never
    When the workflow is executed
    Then the saga should be compensated
    And stock.release should be called at 5s

  Scenario: A call in flight when somebody cancels is undone
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
    """
    And stock.reserve answers never
    When the workflow starts
    And the workflow is cancelled
    Then only reserve should be undone in this order
    When stock.reserve is answered late with ok {"id": 7}
    Then stock.release should be called once

  Scenario: A retried call that was lost once is undone although its last attempt was refused
    Given a workflow with definition:
    """yaml
    do:
      - attempt:
          try: [ { reserve: { call: stock.reserve, compensate: { call: stock.release } } } ]
          catch: { retry: { delay: PT1S, limit: { attempt: { count: 1 } } } }
    """
    And stock.reserve answers lost, then refused 409
    When the workflow is executed
    Then the workflow should fault
    And only reserve should be undone in this order

  # Point 3: the order.
  Scenario: Undoing follows the order of starts and not of ends
    Given a workflow with definition:
    """yaml
    do:
      - both:
          fork:
            branches:
              - slow: { call: stock.slow, compensate: { call: stock.unslow } }
              - fast: { call: stock.fast, compensate: { call: stock.unfast } }
      - ship: { call: ship.book }
    """
    And stock.slow answers never
    And ship.book answers refused
    When the workflow starts
    And 3s pass
    And stock.slow is answered with ok
    Then the saga should be compensated
    And only fast, slow should be undone in this order

  Scenario: Only one compensation runs at a time
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge, compensate: { call: pay.refund } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And pay.refund answers never
    When the workflow starts
    Then the saga should be compensating
    And stock.release should not be called
    When pay.refund is answered with ok
    Then the saga should be compensated
    And stock.release should be called once

  Scenario: Compensations run at the same time when the policy says so
    Given a workflow with definition:
    """yaml
    saga: { order: parallel }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge, compensate: { call: pay.refund } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And pay.refund answers never
    When the workflow starts
    Then stock.release should be called once
    And the saga should be compensating
    When pay.refund is answered with ok
    Then the saga should be compensated

  # Point 4: what a compensation sees.
  Scenario: A compensation sees the output, input, context and key of what it undoes
    Given a workflow with definition:
    """yaml
    do:
      - before: { call: stock.before, export: { as: '${ { note: "then" } }' } }
      - reserve:
          input: { from: '${ { sku: "shoe" } }' }
          call: stock.reserve
          compensate:
            call: stock.release
            with:
              id: '${ .id }'
              sku: '${ $input.sku }'
              note: '${ $context.note }'
              key: '${ $task.idempotencyKey }'
              why: '${ $error.status }'
              trigger: '${ $saga.trigger }'
      - after: { call: stock.after, export: { as: '${ { note: "later" } }' } }
      - ship: { call: ship.book }
    """
    And stock.reserve answers ok {"id": 7}
    And ship.book answers refused 418
    When the workflow is executed
    Then stock.release should be called with:
    """yaml
    id: 7
    sku: shoe
    note: then
    key: i/do/1/reserve
    why: 418
    trigger: fault
    """

  Scenario: A compensation of an unknown outcome sees no output
    Given a workflow with definition:
    """yaml
    do:
      - reserve:
          call: stock.reserve
          compensate: { call: stock.release, with: { id: '${ .id // "none" }', whole: '${ . }' } }
    """
    And stock.reserve answers lost
    When the workflow is executed
    Then stock.release should be called with:
    """yaml
    id: none
    whole: null
    """

  # Point 5: composites, loops, forks.
  Scenario: A completed composite is undone as a whole
    Given a workflow with definition:
    """yaml
    do:
      - order:
          do:
            - reserve: { call: stock.reserve, compensate: { call: stock.release } }
            - charge: { call: pay.charge, compensate: { call: pay.refund } }
          compensate: { call: orders.void }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    When the workflow is executed
    Then only order should be undone in this order
    And the calls should be stock.reserve, pay.charge, ship.book, orders.void

  Scenario: An unfinished composite is undone task by task
    Given a workflow with definition:
    """yaml
    do:
      - order:
          do:
            - reserve: { call: stock.reserve, compensate: { call: stock.release } }
            - charge: { call: pay.charge, compensate: { call: pay.refund } }
          compensate: { call: orders.void }
    """
    And pay.charge answers refused
    When the workflow is executed
    Then only reserve should be undone in this order
    And orders.void should not be called

  Scenario: A loop is undone from its last iteration to its first
    Given a workflow with definition:
    """yaml
    do:
      - every:
          for: { each: sku, in: '["a", "b", "c"]' }
          do:
            - reserve:
                call: stock.reserve
                with: { sku: '${ $sku }' }
                compensate: { call: stock.release, with: { sku: '${ .sku }' } }
    """
    And stock.reserve answers ok {"sku": "a"}, then ok {"sku": "b"}, then refused
    When the workflow is executed
    Then the saga should be compensated
    And stock.release should be called 2 times
    And stock.release should be called with 2 different keys
    And stock.release should be called with:
    """yaml
    sku: a
    """

  Scenario: A compensation of several tasks runs them in their order
    Given a workflow with definition:
    """yaml
    do:
      - charge:
          call: pay.charge
          compensate:
            do:
              - refund: { call: pay.refund }
              - tell: { call: mail.sorry }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    When the workflow is executed
    Then the calls should be pay.charge, ship.book, pay.refund, mail.sorry

  # Point 7: a compensation is durable and detached.
  Scenario: A compensation is tried again until it works
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And stock.release answers lost, then nobody, then refused 503, then ok
    When the workflow is executed
    Then the saga should be compensated
    And stock.release should be called at 0s, 1s, 3s, 7s
    And stock.release should be called with one key

  Scenario: The deadline of the workflow does not end its compensations
    Given a workflow with definition:
    """yaml
    timeout: { after: PT10S }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And stock.release answers lost, then lost, then lost, then lost, then lost, then ok
    When the workflow is executed
    Then the saga should be compensated
    And stock.release should be called at 0s, 1s, 3s, 7s, 15s, 31s
    And the workflow should fault with error:
    """yaml
    status: 409
    """

  Scenario: A cancel does not end compensations
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And stock.release answers never
    When the workflow starts
    And the workflow is cancelled
    Then the workflow should be faulted
    And the saga should be compensating
    When stock.release is answered with ok
    Then the saga should be compensated

  # Point 8: stuck, and who decides.
  Scenario: Spent retries park the saga until an operator retries
    Given a workflow with definition:
    """yaml
    saga: { retry: { delay: PT1S, limit: { attempt: { count: 1 } } } }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge, compensate: { call: pay.refund } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And pay.refund answers refused, then refused, then ok
    When the workflow is executed
    Then the saga should be stuck
    And the compensation of charge should be stuck
    And stock.release should not be called
    When the operator retries
    And the workflow goes on
    Then the saga should be compensated
    And only charge, reserve should be undone in this order

  Scenario: An operator skips a stuck compensation
    Given a workflow with definition:
    """yaml
    saga: { retry: { limit: { attempt: { count: 0 } } } }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge, compensate: { call: pay.refund } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And pay.refund answers refused
    When the workflow is executed
    And the operator skips
    Then the saga should be compensated
    And the compensation of charge should be skipped
    And only reserve should be undone in this order

  Scenario: An operator resolves a stuck compensation by hand
    Given a workflow with definition:
    """yaml
    saga: { retry: { limit: { attempt: { count: 0 } } } }
    do:
      - charge: { call: pay.charge, compensate: { call: pay.refund } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And pay.refund answers refused
    When the workflow is executed
    And the operator resolves with:
    """yaml
    refunded: by transfer
    """
    Then the saga should be compensated
    And the compensation of charge should be resolved

  Scenario: An operator abandons a saga
    Given a workflow with definition:
    """yaml
    saga: { retry: { limit: { attempt: { count: 0 } } } }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge, compensate: { call: pay.refund } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And pay.refund answers refused
    When the workflow is executed
    And the operator abandons
    Then the saga should be abandoned
    And the compensation of reserve should be abandoned
    And stock.release should not be called

  Scenario: A stuck compensation does not hold the others up when the policy says so
    Given a workflow with definition:
    """yaml
    saga: { onStuck: continue, retry: { limit: { attempt: { count: 0 } } } }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge, compensate: { call: pay.refund } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And pay.refund answers refused
    When the workflow is executed
    Then the saga should be stuck
    And only reserve should be undone in this order
    When the operator skips
    Then the saga should be compensated

  Scenario: A compensation with a broken expression is stuck at once
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release, with: { id: '${ .id + 1 }' } } }
      - ship: { call: ship.book }
    """
    And stock.reserve answers ok {"id": "text"}
    And ship.book answers refused
    When the workflow is executed
    Then the saga should be stuck
    And stock.release should not be called

  Scenario: The policy bounds how long undoing may take
    Given a workflow with definition:
    """yaml
    saga: { timeout: { after: PT10S } }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    And stock.release answers lost for ever
    When the workflow starts
    And 1m pass
    Then the saga should be stuck
    And stock.release should be called at 0s, 1s, 3s, 7s

  # Point 9: exactly one outcome.
  Scenario: Every eligible task is undone once, whatever is answered twice
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge, compensate: { call: pay.refund } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    When the workflow is executed
    And pay.refund is answered late with ok
    And stock.reserve is answered late with ok
    And ship.book is answered late with ok
    Then pay.refund should be called once
    And stock.release should be called once
    And the workflow should be faulted
    And the saga should be compensated

  # Point 10: two axes.
  Scenario: A workflow that completes commits its saga
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
    """
    When the workflow is executed
    Then the workflow should complete
    And the saga should be committed

  Scenario: A workflow that undoes nothing has no saga
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve }
    """
    And stock.reserve answers refused
    When the workflow is executed
    Then the workflow should fault
    And the saga should be none

  # Point 11: the pivot.
  Scenario: Nothing is undone once the pivot completed
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge, pivot: true }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    When the workflow is executed
    Then the workflow should fault
    And the saga should be committed
    And nothing should be undone

  Scenario: A pivot that was refused commits nothing
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge, pivot: true }
    """
    And pay.charge answers refused 402
    When the workflow is executed
    Then the saga should be compensated
    And only reserve should be undone in this order

  Scenario: A cancel behind the pivot undoes nothing
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge, pivot: true }
      - ship: { call: ship.book }
    """
    And ship.book answers never
    When the workflow starts
    And the workflow is cancelled
    Then the workflow should be cancelled
    And the saga should be committed
    And nothing should be undone

  # Point 12: keys.
  Scenario: An undo has a key of its own and carries the key of what it undoes
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    When the workflow is executed
    Then stock.reserve should be called with the key i/do/0/reserve
    And stock.release should be called with the key i/do/0/reserve/undo
    And stock.release should be called with the forward key i/do/0/reserve

  Scenario: The undo of an iteration carries the key of its iteration
    Given a workflow with definition:
    """yaml
    do:
      - every:
          for: { in: '["a", "b"]' }
          do:
            - reserve: { call: stock.reserve, compensate: { call: stock.release } }
    """
    And stock.reserve answers ok, then refused
    When the workflow is executed
    Then stock.release should be called with the forward key i/do/0/every/do/0/reserve

  # Point 13: an undo may overtake its request.
  Scenario: An undo that overtakes its request can be recognised by the forward key
    Given a workflow with definition:
    """yaml
    timeout: { after: PT5S }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
    """
    And stock.reserve answers never
    When the workflow is executed
    Then stock.release should be called with the forward key i/do/0/reserve
    When stock.reserve is answered late with ok {"id": 7}
    Then the saga should be compensated
    And stock.release should be called once

  # Both spellings, and functions.
  Scenario: The portable spelling means the same
    Given a workflow with definition:
    """yaml
    do:
      - reserve:
          call: stock.reserve
          metadata: { compensate: { call: stock.release }, idempotencyKey: '${ "mine-\(.order)" }' }
      - charge: { call: pay.charge, metadata: { pivot: true } }
    """
    And given the workflow input is:
    """yaml
    order: 7
    """
    And pay.charge answers refused
    When the workflow is executed
    Then only reserve should be undone in this order
    And stock.release should be called with the forward key mine-7

  Scenario: A function brings its compensation along
    Given a workflow with definition:
    """yaml
    use:
      functions:
        reserve: { call: stock.reserve, compensate: { call: stock.release, with: { id: '${ .id }' } } }
    do:
      - mine: { call: reserve }
      - ship: { call: ship.book }
    """
    And stock.reserve answers ok {"id": 7}
    And ship.book answers refused
    When the workflow is executed
    Then the saga should be compensated
    And stock.release should be called with:
    """yaml
    id: 7
    """

  Scenario: A call may refuse the compensation of its function
    Given a workflow with definition:
    """yaml
    use:
      functions:
        reserve: { call: stock.reserve, compensate: { call: stock.release } }
    do:
      - mine: { call: reserve, compensate: false }
      - ship: { call: ship.book }
    """
    And ship.book answers refused
    When the workflow is executed
    Then stock.release should not be called
