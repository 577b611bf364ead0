import { readFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { resolveData } from '../../ts/models/data.js'
import { COMMIT, lfs, small, TestHub } from './support/hub.mjs'
import { failure, folder, options } from './support/workspace.mjs'

const NAME = 'org/bench'
const LINES = '{"id":"a"}\n'
const repos = {
  [`datasets/${NAME}`]: { files: { 'data/a.jsonl': small(LINES), 'big.jsonl': lfs(Buffer.from(LINES.repeat(9))) } },
}

test('a file of a data set is fetched into the cache that all clients of the hub share, and serves offline', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, repos)]
  const { given } = options(home, hub.endpoint)
  const file = await resolveData(`hf:datasets/${NAME}:data/a.jsonl`, given)
  t.is(file, path.join(home, 'hub', 'datasets--org--bench', 'snapshots', COMMIT, 'data', 'a.jsonl'))
  t.is(await readFile(file, 'utf8'), LINES)
  t.is(await readFile(await resolveData(`hf:datasets/${NAME}@main:big.jsonl`, given), 'utf8'), LINES.repeat(9))
  hub.stop()
  t.is(await resolveData(`hf:datasets/${NAME}:data/a.jsonl`, given), file)
  const offline = options(home, hub.endpoint, { HF_HUB_OFFLINE: '1' }).given
  t.is(await resolveData(`hf:datasets/${NAME}:data/a.jsonl`, offline), file)
  await failure(t, resolveData(`hf:datasets/${NAME}:other.jsonl`, offline), 'NotCached')
})

test('a path is a path; what is no reference, or not there, says so', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, repos)]
  const { given } = options(home, hub.endpoint)
  t.is(await resolveData('some/file.jsonl', given), 'some/file.jsonl')
  for (const bad of [`hf:datasets/${NAME}`, 'hf:datasets/', `hf:datasets/${NAME}:../../etc/passwd`]) {
    await failure(t, resolveData(bad, given), 'InvalidReference')
  }
  await failure(t, resolveData(`hf:datasets/${NAME}:nothing.jsonl`, given), 'ModelNotFound')
})
