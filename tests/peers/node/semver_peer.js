// Says what npm's own semver makes of versions and ranges.
//
// Each line of standard input is a JSON array [version, range]; each line of the answer
// is one of: admitted, refused, invalid-version, invalid-range. Both are read strictly:
// loose and includePrerelease are off.
'use strict'

const readline = require('node:readline')
const semver = require('semver')

const strict = { loose: false, includePrerelease: false }

function answer (version, text) {
  let range
  try {
    range = new semver.Range(text, strict)
  } catch {
    return 'invalid-range'
  }
  if (semver.parse(version, strict) === null) return 'invalid-version'
  return range.test(version) ? 'admitted' : 'refused'
}

const answers = []
readline.createInterface({ input: process.stdin, crlfDelay: Infinity })
  .on('line', (line) => answers.push(answer(...JSON.parse(line))))
  .on('close', () => process.stdout.write(answers.join('\n') + '\n'))
