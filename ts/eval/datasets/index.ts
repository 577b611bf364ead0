import type { Item } from '../item.js'
import { infiniteBench } from './infinitebench.js'
import { longBench } from './longbench.js'
import { looGle } from './loogle.js'
import { readText } from './row.js'
import { scBench } from './scbench.js'
import { zeroScrolls } from './zeroscrolls.js'

/** Reads a file of a published benchmark, as it was downloaded. */
export type Loader = (path: string) => Item[]

const from =
  (items: (path: string, text: string) => Item[]): Loader =>
  (path) =>
    items(path, readText(path))

/** Published benchmarks. Their files say by their names which subtask they hold. */
export const DATASETS: Record<string, Loader> = {
  longbench: from(longBench),
  infinitebench: from(infiniteBench),
  loogle: from(looGle),
  zeroscrolls: from(zeroScrolls),
  scbench: from(scBench),
}
