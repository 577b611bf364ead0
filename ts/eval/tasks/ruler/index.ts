import type { Task } from '../task.js'
import { commonWords } from './common-words.js'
import { frequentWords } from './frequent-words.js'
import { type Needles, needleTask } from './niah.js'
import { qa1, qa2 } from './qa.js'
import { variableTracking } from './variable-tracking.js'

const ONE = { keys: 1, values: 1, queries: 1 }

/** Name, summary and set-up of the eight needle tasks. */
const NEEDLES: [string, string, Needles][] = [
  [
    'niah_single_1',
    'a number in repeated noise',
    { haystack: 'noise', keys: 'words', values: 'numbers', numbers: ONE },
  ],
  ['niah_single_2', 'a number in prose', { haystack: 'essay', keys: 'words', values: 'numbers', numbers: ONE }],
  ['niah_single_3', 'a UUID in prose', { haystack: 'essay', keys: 'words', values: 'uuids', numbers: ONE }],
  [
    'niah_multikey_1',
    'one of four numbers in prose',
    { haystack: 'essay', keys: 'words', values: 'numbers', numbers: { ...ONE, keys: 4 } },
  ],
  [
    'niah_multikey_2',
    'one number among nothing but numbers',
    { haystack: 'needle', keys: 'words', values: 'numbers', numbers: ONE },
  ],
  [
    'niah_multikey_3',
    'one UUID among nothing but UUIDs',
    { haystack: 'needle', keys: 'uuids', values: 'uuids', numbers: ONE },
  ],
  [
    'niah_multivalue',
    'four numbers of one key in prose',
    { haystack: 'essay', keys: 'words', values: 'numbers', numbers: { ...ONE, values: 4 } },
  ],
  [
    'niah_multiquery',
    'the numbers of four keys in prose',
    { haystack: 'essay', keys: 'words', values: 'numbers', numbers: { ...ONE, keys: 4, queries: 4 } },
  ],
]

/**
 * The thirteen tasks of RULER (arXiv 2404.06654, github.com/NVIDIA/RULER) in its official configuration, in our own words and over our
 * own prose and word lists.
 */
export const RULER: Record<string, Task> = Object.fromEntries(
  [
    ...NEEDLES.map(([name, summary, set]) => needleTask(name, summary, set)),
    variableTracking,
    commonWords,
    frequentWords,
    qa1,
    qa2,
  ].map((task) => [task.name, task]),
)
