Feature: Checks
  As the author of a workflow
  I want to be told what is valid and still will not do what I want
  So that I learn it from a line number and not from a customer

  Scenario: Work in a saga that nothing undoes
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - charge: { call: pay.charge }
    """
    Then there should be a warning SNW-2033 at 3:13:
    """
    nothing undoes `charge` when the saga fails after it
    compensate: false
    """

  Scenario: Saying that there is nothing to undo is enough
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - look: { call: stock.look, compensate: false }
      - charge: { call: pay.charge, pivot: true }
      - ship: { call: ship.book }
    """
    Then there should be no warning

  Scenario: A workflow that undoes nothing is not told to
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve }
    """
    Then there should be no warning

  Scenario: A function that is undone as one covers what it calls
    Given a workflow with definition:
    """yaml
    use: { functions: { reserve: { call: stock.reserve } } }
    do:
      - mine: { call: reserve, compensate: { call: stock.release } }
    """
    Then there should be no warning

  Scenario: A function brings a doubt to its own place
    Given a workflow with definition:
    """yaml
    use: { functions: { charge: { call: pay.charge } } }
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - mine: { call: charge }
    """
    Then there should be a warning SNW-2033 at 1:29

  Scenario: An event before the pivot
    Given a workflow with definition:
    """yaml
    do:
      - tell: { emit: { event: { with: { type: order.placed } } } }
      - charge: { call: pay.charge, pivot: true }
      - told: { emit: { event: { with: { type: order.paid } } } }
    """
    Then there should be a warning SNW-2034 at 2:11:
    """
    `tell` tells others before the pivot
    """

  Scenario: A compensation behind the pivot
    Given a workflow with definition:
    """yaml
    do:
      - charge: { call: pay.charge, pivot: true }
      - inner:
          do:
            - ship: { call: ship.book, compensate: { call: ship.cancel } }
    """
    Then there should be a warning SNW-2035 at 5:48:
    """
    `ship` comes after the pivot
    """

  Scenario: What may be before or behind the pivot is left to its author
    Given a workflow with definition:
    """yaml
    do:
      - charge: { if: .paid, call: pay.charge, pivot: true }
      - ship: { call: ship.book, compensate: { call: ship.cancel } }
      - tell: { emit: { event: { with: { type: order.shipped } } } }
    """
    Then there should be no warning

  Scenario: A jump over the pivot is followed
    Given a workflow with definition:
    """yaml
    do:
      - choose: { switch: [ { free: { when: .free, then: ship } } ] }
      - charge: { call: pay.charge, pivot: true }
      - ship: { call: ship.book, compensate: { call: ship.cancel } }
    """
    Then there should be no warning

  Scenario: A fork that waits for a pivot is behind it
    Given a workflow with definition:
    """yaml
    do:
      - both:
          fork:
            branches:
              - charge: { call: pay.charge, pivot: true }
              - reserve: { call: stock.reserve, compensate: { call: stock.release } }
      - ship: { call: ship.book, compensate: { call: ship.cancel } }
    """
    Then there should be a warning SNW-2035 at 7:42

  Scenario: An undo that reads an output nobody may know
    Given a workflow with definition:
    """yaml
    do:
      - reserve:
          call: stock.reserve
          compensate: { call: stock.release, with: { reservation: '${ .id }' } }
    """
    Then there should be a warning SNW-2036 at 4:63:
    """
    `.id` is null when nobody knows whether `reserve` was done
    undo by `$task.idempotencyKey`
    """

  Scenario: An undo that knows what to do without an output
    Given a workflow with definition:
    """yaml
    do:
      - one: { call: stock.one, compensate: { call: stock.un, with: { id: '${ .id // $task.idempotencyKey }' } } }
      - two: { call: stock.two, compensate: { if: '${ . != null }', call: stock.un, with: { id: '${ .id }' } } }
      - three: { call: stock.three, compensate: { call: stock.un, with: { id: '${ if . == null then 0 else .id end }' } } }
      - four: { call: stock.four, compensate: { call: stock.un, with: { sku: '${ $input.sku }' } } }
    """
    Then there should be no warning

  Scenario: A composite whose parts answer for themselves is undone as a whole only when it completed
    Given a workflow with definition:
    """yaml
    do:
      - order:
          do: [ { reserve: { call: stock.reserve, compensate: { call: stock.release } } } ]
          compensate: { call: stock.un, with: { id: '${ .id }' } }
    """
    Then there should be no warning

  Scenario: A composite that answers for its parts may be undone half done
    Given a workflow with definition:
    """yaml
    do:
      - order:
          do: [ { reserve: { call: stock.reserve } }, { charge: { call: pay.charge } } ]
          compensate: { call: orders.void, with: { id: '${ .id }' } }
    """
    Then there should be a warning SNW-2036 at 4:52

  Scenario: A part without compensation beside one that has one
    Given a workflow with definition:
    """yaml
    do:
      - order:
          do:
            - reserve: { call: stock.reserve, compensate: { call: stock.release } }
            - charge: { call: pay.charge }
          compensate: { call: orders.void }
    """
    Then there should be a warning SNW-2033 at 5:19

  Scenario: An undo that reads the variable of a loop
    Given a workflow with definition:
    """yaml
    do:
      - every:
          for: { each: sku, in: .skus }
          do:
            - reserve:
                call: stock.reserve
                compensate: { call: stock.release, with: { sku: '${ $sku }' } }
    """
    Then the definition should be refused
    And there should be an error SNW-2037 at 7:61:
    """
    `$sku` is gone when this runs
    """

  Scenario: An undo that reads its own output before it has one
    Given a workflow with definition:
    """yaml
    do:
      - reserve: { call: stock.reserve, compensate: { call: stock.release, with: { id: '${ $output.id }' } } }
    """
    Then the definition should be refused
    And there should be an error SNW-2037 at 2:84:
    """
    the output of what is undone is `.`
    """

  Scenario: A task nothing leads to
    Given a workflow with definition:
    """yaml
    do:
      - first: { set: { n: 1 }, then: end }
      - second: { set: { n: 2 } }
      - third: { set: { n: 3 } }
    """
    Then there should be a warning SNW-2031 at 3:13:
    """
    nothing leads to `second`
    """

  Scenario: Tasks that go round for ever without waiting
    Given a workflow with definition:
    """yaml
    do:
      - start: { set: { n: 1 } }
      - one: { set: { n: 1 } }
      - two: { set: { n: 2 }, then: one }
    """
    Then the definition should be refused
    And there should be an error SNW-2032 at 4:33:
    """
    after `two` the same tasks run again for ever
    """

  Scenario: A switch that always leads back goes round for ever
    Given a workflow with definition:
    """yaml
    do:
      - one: { set: { n: 1 } }
      - two: { switch: [ { yes: { when: .n == 1, then: one } }, { no: { then: two } } ] }
    """
    Then the definition should be refused
    And there should be an error SNW-2032 at 3:10

  Scenario: Going round is fine when it can end, or waits
    Given a workflow with definition:
    """yaml
    do:
      - count: { set: { n: '${ (.n // 0) + 1 }' } }
      - more: { switch: [ { again: { when: .n < 5, then: count } } ] }
      - poll: { call: jobs.poll }
      - pause: { wait: PT1M, then: poll }
    """
    Then there should be no warning

  Scenario: A task that waits somewhere inside waits
    Given a workflow with definition:
    """yaml
    do:
      - round:
          do:
            - deep: { for: { in: '[1]' }, do: [ { pause: { wait: PT1M } } ] }
          then: round
    """
    Then there should be no warning
