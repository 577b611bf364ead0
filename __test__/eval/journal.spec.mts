import { appendFileSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'
import { Journal } from '../../ts/eval/journal.js'
import { HeadwiseError } from '../../ts/index.js'

const file = () => path.join(mkdtempSync(path.join(tmpdir(), 'headwise-')), 'journal')
const HEAD = { format: 1, model: 'a' }

test('what was added is there when the file is opened again', (t) => {
  const name = file()
  const first = new Journal<{ key: string; n: number }>(name, HEAD)
  first.add({ key: 'a', n: 1 })
  first.add({ key: 'ü\u2028', n: 2 })
  first.close()
  const second = new Journal<{ key: string; n: number }>(name, HEAD)
  second.add({ key: 'c', n: 3 })
  second.close()
  const third = new Journal<{ key: string; n: number }>(name, HEAD)
  t.deepEqual(
    [...third.entries.values()],
    [
      { key: 'a', n: 1 },
      { key: 'ü\u2028', n: 2 },
      { key: 'c', n: 3 },
    ],
  )
  third.close()
})

test('a file cut at any byte gives the whole lines before the cut and takes new ones', (t) => {
  const name = file()
  const journal = new Journal(name, HEAD)
  for (const key of ['one', 'zwölf', 'three']) journal.add({ key })
  journal.close()
  const bytes = readFileSync(name)
  for (let length = 0; length <= bytes.length; length++) {
    writeFileSync(name, bytes.subarray(0, length))
    const cut = new Journal(name, HEAD)
    const whole = bytes.subarray(0, length).toString().split('\n').length - 2
    t.is(cut.entries.size, Math.max(whole, 0), `cut at ${length}`)
    cut.add({ key: 'new' })
    cut.close()
    const again = new Journal(name, HEAD)
    t.is(again.entries.size, Math.max(whole, 0) + 1)
    t.true(again.entries.has('new'))
    again.close()
  }
})

test('an entry that stands twice counts once', (t) => {
  const name = file()
  new Journal(name, HEAD).close()
  appendFileSync(name, '{"key":"a","n":1}\n{"key":"a","n":2}\n')
  const journal = new Journal<{ key: string; n: number }>(name, HEAD)
  t.deepEqual([...journal.entries.values()], [{ key: 'a', n: 1 }])
  journal.close()
})

test('the journal of another experiment, and files that are none, are refused', (t) => {
  const name = file()
  new Journal(name, HEAD).close()
  const refused = (head: object) =>
    t.is(t.throws(() => new Journal(name, head), { instanceOf: HeadwiseError })?.code, 'InvalidArgument')
  refused({ ...HEAD, model: 'b' })
  for (const line of ['nonsense', '{"no":"key"}', 'null', '[]']) {
    writeFileSync(name, `${JSON.stringify(HEAD)}\n${line}\n`)
    refused(HEAD)
  }
})
