import test from 'ava'
import { RULER } from '../../ts/eval/tasks/ruler/index.js'
import { solve } from './solver.mjs'

const count = (text: string) => Math.round(text.split(/\s+/).length * 1.3)
const solvable = Object.entries(RULER).filter(([name]) => !name.startsWith('qa'))

for (const [name, task] of solvable) {
  for (const tokens of [512, 1024, 2048, 4096]) {
    test(`${name} at ${tokens} tokens is answered by its text`, (t) => {
      const items = task.generate({ tokens, items: 6, seed: 3, count })
      t.is(items.length, 6)
      for (const { context, turns } of items) {
        const [turn] = turns
        t.truthy(turn)
        // Which order a list of answers has is nothing that a text could tell.
        if (turn) t.deepEqual(solve(name, context + turn.question).sort(), [...turn.answers].sort())
      }
    })
  }
}
