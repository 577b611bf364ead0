import { NEEDLE_TASKS } from './needles.js'
import { nll } from './nll.js'
import { RULER } from './ruler/index.js'
import type { Task } from './task.js'

/** Every task that `headwise eval` can make by itself. */
export const TASKS: Record<string, Task> = { ...NEEDLE_TASKS, ...RULER, nll }
