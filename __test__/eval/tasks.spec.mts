import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { makeDocument } from '../../ts/demo/documents.js'
import { HeadwiseError } from '../../ts/errors.js'
import type { Item } from '../../ts/eval/item.js'
import { TASKS } from '../../ts/eval/tasks/index.js'
import { DEPTHS } from '../../ts/eval/tasks/needles.js'
import { NOISE } from '../../ts/eval/tasks/ruler/haystack.js'
import { RULER } from '../../ts/eval/tasks/ruler/index.js'
import { ADJECTIVES, NOUNS, VERBS } from '../../ts/eval/tasks/ruler/words.js'
import { largest, type Task, type TaskOptions } from '../../ts/eval/tasks/task.js'

/** Words, and marks by themselves: about what a tokenizer does. */
const count = (text: string) => text.match(/\w+|[^\w\s]/g)?.length ?? 0

const folder = mkdtempSync(join(tmpdir(), 'headwise-tasks-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

function file(name: string, content: string | Buffer): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

const paragraph = (name: string) =>
  `Paragraph ${name}. ${Array.from({ length: 20 }, (_, i) => `word${name}${i}`).join(' ')}.`

/** Five articles of eight paragraphs, each with a question. */
const squad = file(
  'squad.json',
  JSON.stringify({
    data: Array.from({ length: 5 }, (_, a) => ({
      paragraphs: Array.from({ length: 8 }, (_, p) => ({
        context: paragraph(`${a}x${p}`),
        qas: [
          { question: `What of ${a}x${p}?`, answers: [{ text: `word${a}x${p}7` }, { text: 'seven' }] },
          { question: 'Impossible?', is_impossible: true, answers: [] },
        ],
      })),
    })),
  }),
)

/** Twenty questions with four paragraphs each. */
const hotpot = file(
  'hotpot.json',
  JSON.stringify(
    Array.from({ length: 20 }, (_, q) => ({
      question: `Which ${q}?`,
      answer: `word${q}y1`,
      context: Array.from({ length: 4 }, (_, p) => [`Title ${q}y${p}`, [paragraph(`${q}y${p}`), ' The end.']]),
    })),
  ),
)

const prose = file('prose.txt', Array.from({ length: 9000 }, (_, i) => `word${i % 97}`).join(' '))

const data: Record<string, string> = { qa_1: squad, qa_2: hotpot, nll: prose }

function make(task: Task, options: Partial<TaskOptions> = {}): Item[] {
  const path = data[task.name]
  return task.generate({
    tokens: 1024,
    items: 3,
    seed: 1,
    count,
    ...(path !== undefined && { data: path }),
    ...options,
  })
}

const tokensOf = ({ context, turns }: Item) => count(context + (turns[0]?.question ?? ''))
const occurrences = (text: string, part: string) => text.split(part).length - 1
const only = (item: Item) => item.turns[0] as Item['turns'][number]

/** Key and value of every needle in a text. */
const needles = (text: string) =>
  [...text.matchAll(/One of the special magic \w+ for (\S+) is: (\S+)\./g)].map(([, key, value]) => ({ key, value }))

test('all of RULER is there, with its metrics and lengths of answers', (t) => {
  const names =
    'niah_single_1 niah_single_2 niah_single_3 niah_multikey_1 niah_multikey_2 niah_multikey_3 niah_multivalue'
  t.deepEqual(Object.keys(RULER), [...names.split(' '), 'niah_multiquery', 'vt', 'cwe', 'fwe', 'qa_1', 'qa_2'])
  const most: Record<string, number> = { vt: 30, cwe: 120, fwe: 50, qa_1: 32, qa_2: 32 }
  for (const task of Object.values(RULER)) {
    for (const item of make(task)) {
      t.is(item.metric, task.name.startsWith('qa') ? 'containsAny' : 'containsAll')
      t.is(item.maxTokens, most[task.name] ?? 128, task.name)
    }
  }
})

for (const task of Object.values(TASKS)) {
  test(`${task.name}: items fill the length and do not exceed it`, (t) => {
    for (const tokens of [700, 1024, 4096]) {
      if (data[task.name] && tokens > 1024) continue
      for (const item of make(task, { tokens })) {
        t.true(tokensOf(item) <= tokens, `${tokensOf(item)} of ${tokens}`)
        t.true(tokensOf(item) >= 0.9 * tokens, `${tokensOf(item)} of ${tokens}`)
      }
    }
  })

  test(`${task.name}: an item depends on seed, length and index, and not on how many there are`, (t) => {
    const items = make(task, { items: 4 })
    t.deepEqual(make(task, { items: 4 }), items)
    t.deepEqual(make(task, { items: 2 }), items.slice(0, 2))
    const texts = new Set(items.map((item) => item.context + (item.turns[0]?.question ?? '')))
    t.is(texts.size, items.length)
    t.is(new Set(items.map(({ id }) => id)).size, items.length)
    t.true(items.every((item) => item.task === task.name && item.id.startsWith(`${task.name}-1024-`)))
    if (task.name !== 'nll') t.notDeepEqual(make(task, { items: 4, seed: 2 }), items)
  })

  test(`${task.name}: a length that does not hold it is refused`, (t) => {
    const error = t.throws(() => make(task, { tokens: 8, ...(task.name === 'nll' && { items: 100_000 }) }), {
      instanceOf: HeadwiseError,
    })
    t.is(error?.code, 'InvalidArgument')
  })
}

/** Needles in a haystack of other text: how many there are, and how many are asked for. */
const NIAH: Record<string, [inText: number, answers: number]> = {
  niah_single_1: [1, 1],
  niah_single_2: [1, 1],
  niah_single_3: [1, 1],
  niah_multikey_1: [4, 1],
  niah_multivalue: [4, 4],
  niah_multiquery: [4, 4],
}

test('niah: the answers are what the text says of the keys asked for, and values are distinct', (t) => {
  for (const task of Object.values(RULER).filter(({ name }) => name.startsWith('niah'))) {
    for (const item of make(task, { items: 5 })) {
      const found = needles(item.context)
      const { question, answers } = only(item)
      const [inText, asked] = NIAH[task.name] ?? [found.length, 1]
      t.is(found.length, inText, task.name)
      t.is(answers.length, asked, task.name)
      t.is(new Set(found.map(({ value }) => value)).size, found.length, 'values are distinct')
      const keys = new Set(found.map(({ key }) => key)).size
      t.is(keys, task.name === 'niah_multivalue' ? 1 : found.length, 'keys are distinct')
      const right = found.filter(({ key }) => new RegExp(`for .*\\b${key}\\b.* in the text above\\?`).test(question))
      t.deepEqual(right.map(({ value }) => value).sort(), answers.toSorted(), task.name)
      for (const answer of answers) t.is(occurrences(item.context, answer), 1, 'an answer stands in the text once')
    }
  }
  t.true(needles(make(RULER.niah_multikey_2 as Task)[0]?.context ?? '').length > 40)
})

test('niah: needles are spread over the whole text', (t) => {
  const items = make(RULER.niah_single_2 as Task, { items: 60 })
  const depths = items.map((item) => item.context.indexOf(only(item).answers[0] as string) / item.context.length)
  for (const [from, to] of [
    [0, 0.25],
    [0.25, 0.5],
    [0.5, 0.75],
    [0.75, 1],
  ] as const) {
    t.true(depths.filter((depth) => depth >= from && depth < to).length >= 5, `${from} to ${to}`)
  }
})

test('vt: following the assignments in the text gives the answers, and no others', (t) => {
  for (const item of make(RULER.vt as Task, { items: 300, tokens: 500 })) {
    const { question, answers } = only(item)
    const value = /the value (\d{5}) in the text above/.exec(question)?.[1]
    const held = new Map<string, string>()
    for (const [, name, from] of item.context.matchAll(/VAR ([A-Z]+) = (?:VAR )?(\w+)/g)) {
      const known = held.get(from as string) ?? (from as string)
      t.false(held.has(name as string), 'each variable is assigned once')
      t.regex(known, /^\d{5}$/, 'what is assigned is known by then')
      held.set(name as string, known)
    }
    const right = [...held].flatMap(([name, known]) => (known === value ? [name] : []))
    t.deepEqual(right, answers)
    t.is(answers.length, 5)
    const assigned = [...item.context.matchAll(/VAR [A-Z]+ = /g)].length
    for (const name of held.keys()) t.false(NOISE.toUpperCase().includes(name), 'the noise does not hold it')
    t.is(assigned, held.size)
  }
})

test('cwe: the answers are far more frequent than all other words', (t) => {
  for (const tokens of [700, 4096, 30_000]) {
    for (const item of make(RULER.cwe as Task, { tokens, items: 2 })) {
      const list = item.context.slice(item.context.lastIndexOf('\n'))
      const frequency = new Map<string, number>()
      for (const [, word] of list.matchAll(/\d+\. (\S+)/g))
        frequency.set(word as string, (frequency.get(word as string) ?? 0) + 1)
      const ranked = [...frequency].sort((a, b) => b[1] - a[1])
      t.deepEqual(
        ranked
          .slice(0, 10)
          .map(([word]) => word)
          .sort(),
        only(item).answers.toSorted(),
      )
      const [common, other] = tokens < 4096 ? [6, 1] : [30, 3]
      t.is(ranked[9]?.[1], common)
      t.is(ranked[10]?.[1], other)
      const example = item.context.slice(0, item.context.lastIndexOf('\n')).split(/\s+/)
      t.false(
        only(item).answers.some((word) => example.includes(word)),
        'the example has other words',
      )
    }
  }
})

test('cwe: no word is a part of another', (t) => {
  const all = [...ADJECTIVES, ...NOUNS, ...VERBS]
  t.true(ADJECTIVES.length >= 100 && NOUNS.length >= 100)
  for (const [i, word] of all.entries()) {
    t.false(
      all.some((other, j) => i !== j && other.includes(word)),
      word,
    )
  }
})

function assertUnambiguous(t: ExecutionContext, item: Item): void {
  const frequency = new Map<string, number>()
  const coded = item.context.slice(item.context.indexOf('ones. ') + 6)
  for (const word of coded.split(' ')) frequency.set(word, (frequency.get(word) ?? 0) + 1)
  t.true((frequency.get('...') ?? 0) > 0, 'there is noise')
  frequency.delete('...')
  const ranked = [...frequency].sort((a, b) => b[1] - a[1])
  const best = ranked.slice(0, 3).map(([word]) => word)
  t.deepEqual(best.sort(), only(item).answers.toSorted())
  t.true((ranked[2]?.[1] ?? 0) > (ranked[3]?.[1] ?? 0), 'no tie')
}

test('fwe: the three answers are the most frequent words, without a tie', (t) => {
  for (const tokens of [700, 4096]) {
    for (const item of make(RULER.fwe as Task, { tokens })) assertUnambiguous(t, item)
  }
  // The shortest that is not refused has no tie either.
  const fwe = RULER.fwe as Task
  const error = t.throws(() => make(fwe, { tokens: 50 }), { instanceOf: HeadwiseError })
  const least = error?.details.least as number
  t.throws(() => make(fwe, { tokens: least - 1, items: 1 }))
  for (const item of make(fwe, { tokens: least })) assertUnambiguous(t, item)
})

test('qa: the document that answers is there, each document once, and questions do not repeat', (t) => {
  for (const [name, marker] of [
    ['qa_1', /^What of (\S+)\?/],
    ['qa_2', /^Which (\S+)\?/],
  ] as const) {
    const items = make(RULER[name] as Task, { items: 15 })
    for (const item of items) {
      const { question, answers } = only(item)
      const key = marker.exec(question.slice(question.indexOf('Question: ') + 10))?.[1] as string
      t.true(item.context.includes(name === 'qa_1' ? paragraph(key) : paragraph(`${key}y3`)))
      t.true(answers[0]?.startsWith(`word${key}`))
      const documents = item.context.split(/\n\nDocument \d+:\n/).slice(1)
      t.is(new Set(documents).size, documents.length)
      t.true(documents.length > 10)
    }
    t.is(new Set(items.map((item) => only(item).question)).size, 15)
  }
  // The rest of the article comes before other articles, in part if it has to.
  for (const short of make(RULER.qa_1 as Task, { tokens: 200, items: 5 })) {
    const own = /What of (\d)x/.exec(only(short).question)?.[1]
    const articles = [...short.context.matchAll(/Paragraph (\d)x/g)].map(([, article]) => article)
    t.true(articles.length > 3 && articles.every((article) => article === own))
  }
  const [item] = make(RULER.qa_1 as Task, { items: 1 })
  const article = /What of (\d)x/.exec(only(item as Item).question)?.[1]
  for (let p = 0; p < 8; p++) t.true(item?.context.includes(paragraph(`${article}x${p}`)))
})

test('qa: files that do not fit are refused by name and place', (t) => {
  const qa1 = RULER.qa_1 as Task
  const qa2 = RULER.qa_2 as Task
  const cases: [Task, string | undefined, RegExp][] = [
    [qa1, undefined, /needs --data/],
    [qa1, join(folder, 'none.json'), /none\.json.*ENOENT/],
    [qa1, file('a.json', '{"data": [{"paragraphs": ['), /a\.json: not JSON/],
    [
      qa1,
      file('b.json', '{"data": [{"paragraphs": [{"context": 1}]}]}'),
      /b\.json: data\[0\]: paragraphs\[0\]: "context" is a number/,
    ],
    [qa1, file('c.json', '[]'), /c\.json: expected an object/],
    [qa1, file('d.json', '{"data": []}'), /0 questions/],
    [
      qa2,
      file('e.json', '[{"question": "q", "answer": "a", "context": [["t", "s"]]}]'),
      /e\.json: questions\[0\]: "context\[0\]"/,
    ],
    [qa2, file('f.json', `${'['.repeat(100_000)}${']'.repeat(100_000)}`), /f\.json: /],
    [qa2, file('g.json', Buffer.from([0x5b, 0xff, 0xfe])), /g\.json: not a UTF-8/],
  ]
  for (const [task, path, message] of cases) {
    const options = { tokens: 1024, items: 3, seed: 1, count }
    t.throws(() => task.generate(path === undefined ? options : { ...options, data: path }), {
      instanceOf: HeadwiseError,
      message,
    })
  }
  t.throws(() => make(qa1, { tokens: 100_000, items: 1 }), { message: /cannot fill/ })
})

test('facts: both facts of a document are asked for over the same context', (t) => {
  for (const name of ['digits', 'serial', 'phrase']) {
    const items = make(TASKS[name] as Task, { items: 5 })
    for (const item of items) {
      const { question, answers } = only(item)
      t.is(occurrences(item.context, `${question.trim()} ${answers[0]}.`), 1)
      t.is(occurrences(item.context, question.trim()), 1)
      t.deepEqual(item.stop, ['\n'])
    }
    t.is(items[0]?.context, items[1]?.context)
    t.not(items[1]?.context, items[2]?.context)
    t.notDeepEqual(only(items[0] as Item).answers, only(items[1] as Item).answers)
  }
})

test('niah_grid: the needle is at the depth that the id tells', (t) => {
  const items = make(TASKS.niah_grid as Task, { items: 2 * DEPTHS.length, tokens: 2000 })
  for (const [i, item] of items.entries()) {
    const depth = DEPTHS[i % DEPTHS.length] as number
    t.is(item.id, `niah_grid-2000-depth${depth}-${Math.floor(i / DEPTHS.length)}`)
    const at = (100 * item.context.indexOf(only(item).answers[0] as string)) / item.context.length
    t.true(Math.abs(at - depth) < 5, `${at} for ${depth}`)
  }
})

test('nll: contexts and continuations follow each other in the file', (t) => {
  const items = make(TASKS.nll as Task, { tokens: 500, items: 4 })
  const whole = items.map(({ context, continuation }) => context + continuation).join('')
  t.true(
    Array.from({ length: 9000 }, (_, i) => `word${i % 97}`)
      .join(' ')
      .startsWith(whole),
  )
  for (const item of items) {
    t.deepEqual(item.turns, [])
    t.is(count(item.continuation as string), 128)
  }
  t.throws(() => make(TASKS.nll as Task, { items: 100 }), { instanceOf: HeadwiseError, message: /too short/ })
})

test('largest finds the last size within the limit', (t) => {
  let most = 0
  largest(0, 1e6, 1000, (n) => {
    most = Math.max(most, n)
    return 3 * n
  })
  t.true(most <= 1000, 'it does not count far beyond the limit')
  for (const limit of [10, 11, 99, 100, 12_345]) {
    t.is(
      largest(1, 1e6, limit, (n) => 10 * n),
      Math.floor(limit / 10),
    )
    t.is(
      largest(0, 1e6, limit, (n) => n * n),
      Math.floor(Math.sqrt(limit)),
    )
  }
  t.is(
    largest(3, 1e6, 5, (n) => 2 * n),
    undefined,
  )
  t.is(
    largest(1, 4, 1000, (n) => n),
    4,
  )
})

test('the documents of the demo are what they were', (t) => {
  const made = makeDocument(1, 40, ['phrase', 'serial'], (text) => text.split(/\s+/).length)
  t.deepEqual(made, {
    text: 'The serial number of Dakar is: 249-709-953-218. In the margin of the cookbook someone had written never again and underlined it. The secret phrase for Prague is: butter forest pocket. They painted the kitchen yellow and regretted it every morning for a year.',
    questions: [
      { needle: 'phrase', prompt: '\n\nThe secret phrase for Prague is:', answer: 'butter forest pocket' },
      { needle: 'serial', prompt: '\n\nThe serial number of Dakar is:', answer: '249-709-953-218' },
    ],
  })
})
