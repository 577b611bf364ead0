import { fileURLToPath } from 'node:url'
import { HeadwiseError } from '../errors.js'
import { isSafeRelative } from './files.js'

/** `hf:org/name[@revision][:file-or-quant]` */
export interface HubReference {
  kind: 'hub'
  repo: string
  revision: string
  /** File name (`….gguf`), quantization name (`Q4_K_M`) or `safetensors`. */
  select?: string
}

/** `pypi:package==version#file` */
export interface PypiReference {
  kind: 'pypi'
  package: string
  version: string
  /** Path or base name inside the wheel. */
  file: string
}

export interface LocalReference {
  kind: 'local'
  path: string
}

export type Reference = HubReference | PypiReference | LocalReference

const HUB = /^(?<repo>[^@:]+)(?:@(?<revision>[^:]+))?(?::(?<select>.+))?$/
const PYPI =
  /^(?<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?<version>[A-Za-z0-9][A-Za-z0-9.!+_]*)#(?<file>.+)$/
const REPO = /^(?:[A-Za-z0-9_][A-Za-z0-9._-]*\/)?[A-Za-z0-9_][A-Za-z0-9._-]*$/

/** A scheme has two letters at least, so that `C:\models` stays a path. */
const SCHEME = /^[A-Za-z][A-Za-z0-9+.-]+:/

/** Reads a reference. Aliases are not references: `resolveModel` looks them up before. */
export function parseReference(text: string): Reference {
  if (typeof text !== 'string' || text.trim() === '' || text.includes('\0')) {
    throw invalid(text, 'expected a path, hf:org/name[@revision][:file-or-quant] or pypi:package==version#file')
  }
  if (text.startsWith('hf:')) return parseHub(text)
  if (text.startsWith('pypi:')) return parsePypi(text)
  if (text.startsWith('file:')) {
    try {
      return { kind: 'local', path: fileURLToPath(text) }
    } catch (cause) {
      throw invalid(text, 'not a file URL of this machine', cause)
    }
  }
  if (SCHEME.test(text)) throw invalid(text, 'unknown scheme: expected hf:, pypi: or a path')
  return { kind: 'local', path: text }
}

function parseHub(text: string): HubReference {
  const match = HUB.exec(text.slice('hf:'.length))?.groups
  const repo = match?.repo
  // The hub forbids `..` and `--` in names; the first would leave the cache folder, the second is its separator there.
  if (!repo || !REPO.test(repo) || /\.\.|--/.test(repo) || repo.length > 96) {
    throw invalid(text, 'expected hf:org/name[@revision][:file-or-quant]')
  }
  const revision = match.revision ?? 'main'
  if (!isSafeRelative(revision)) throw invalid(text, `not a revision: ${revision}`)
  const select = match.select
  if (select !== undefined && !isSafeRelative(select)) throw invalid(text, `not a file of a repository: ${select}`)
  return { kind: 'hub', repo, revision, ...(select === undefined ? {} : { select }) }
}

function parsePypi(text: string): PypiReference {
  const match = PYPI.exec(text.slice('pypi:'.length))?.groups
  if (!match?.package || !match.version || !match.file || !isSafeRelative(match.file)) {
    throw invalid(text, 'expected pypi:package==version#file')
  }
  return { kind: 'pypi', package: match.package, version: match.version, file: match.file }
}

/** The text that parses to this reference. */
export function formatReference(reference: Reference): string {
  switch (reference.kind) {
    case 'hub': {
      const revision = reference.revision === 'main' ? '' : `@${reference.revision}`
      return `hf:${reference.repo}${revision}${reference.select === undefined ? '' : `:${reference.select}`}`
    }
    case 'pypi':
      return `pypi:${reference.package}==${reference.version}#${reference.file}`
    case 'local':
      return reference.path
  }
}

function invalid(reference: string, expected: string, cause?: unknown): HeadwiseError {
  return new HeadwiseError('InvalidReference', `${reference}: ${expected}`, { reference, expected }, { cause })
}
