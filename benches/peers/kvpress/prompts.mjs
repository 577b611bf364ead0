/** Prints the prompts that `headwise eval --task` asks, one JSON object a line. Needs the built package. See README.md. */
import { stdout } from 'node:process'
import { parseArgs } from 'node:util'
import { TASKS } from '../../../dist/eval/tasks/index.js'
import { Model } from '../../../dist/index.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'smollm2-135m' },
    task: { type: 'string', default: 'digits,serial,phrase' },
    length: { type: 'string', default: '1024' },
    items: { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
  },
})
const model = await Model.load(values.model)
const options = {
  tokens: Number(values.length),
  items: Number(values.items),
  seed: Number(values.seed),
  count: (text) => model.tokenize(text).length,
}
for (const name of values.task.split(',')) {
  for (const { turns, ...item } of TASKS[name].generate(options)) {
    const [{ question, answers }, ...later] = turns
    if (later.length > 0) throw new Error(`${name} asks several questions in a row, kvpress_eval.py one`)
    stdout.write(`${JSON.stringify({ ...item, task: `${item.task}-${values.length}`, question, answers })}\n`)
  }
}
