import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
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

/** Made-up towns, so that the answers stand in the text and nowhere else; a town is on a river, and a river ends in a sea. */
const TOWNS = Array.from({ length: 400 }, (_, i) => ({
  town: `Town${i}x`,
  river: `River${(i * 37) % 400}y`,
  sea: `Sea${i}z`,
}))
const onRiver = ({ town, river }: (typeof TOWNS)[number]) =>
  `${town} lies on the ${river}. It has a mill and two bridges.`
const toSea = ({ river, sea }: (typeof TOWNS)[number]) => `The ${river} ends in the ${sea}, after many bends.`

const FILES: Record<string, unknown> = {
  qa_1: {
    data: TOWNS.map((town) => ({
      paragraphs: [
        {
          context: onRiver(town),
          qas: [{ question: `Which river does ${town.town} lie on?`, answers: [{ text: town.river }] }],
        },
        { context: toSea(town), qas: [] },
      ],
    })),
  },
  qa_2: TOWNS.map((town) => ({
    question: `Which sea does the river of ${town.town} end in?`,
    answer: town.sea,
    context: [
      [town.town, [onRiver(town)]],
      [town.river, [toSea(town)]],
    ],
  })),
}

for (const [name, content] of Object.entries(FILES)) {
  test(`${name} over documents of ours is answered by its text`, (t) => {
    const data = path.join(mkdtempSync(path.join(tmpdir(), 'headwise-')), `${name}.json`)
    writeFileSync(data, JSON.stringify(content))
    for (const tokens of [512, 4096]) {
      const items = RULER[name]?.generate({ tokens, items: 6, seed: 3, count, data }) ?? []
      t.is(items.length, 6)
      for (const { context, turns } of items) {
        t.deepEqual(solve(name, context + turns[0]?.question), turns[0]?.answers)
      }
    }
  })
}
