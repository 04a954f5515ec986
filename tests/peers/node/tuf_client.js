// Asks tuf-js for a second opinion about a TUF repository.
//
// It refreshes, looks up each target, downloads it and prints one JSON document, on
// failure too. tests/peers/README.md describes the arguments and the answer, which the
// Go client shares.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { parseArgs } = require("node:util");

async function run(said) {
  const { Updater } = require("tuf-js");
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      root: { type: "string" },
      "metadata-url": { type: "string" },
      "targets-url": { type: "string" },
      state: { type: "string" },
      out: { type: "string" },
    },
  });
  for (const name of ["root", "metadata-url", "targets-url", "state", "out"]) {
    if (!values[name]) {
      throw new Error(`--${name} is needed`);
    }
  }
  fs.mkdirSync(values.state, { recursive: true });
  fs.mkdirSync(values.out, { recursive: true });
  const trustedRoot = path.join(values.state, "root.json");
  if (!fs.existsSync(trustedRoot)) {
    fs.copyFileSync(values.root, trustedRoot);
  }
  const client = new Updater({
    metadataDir: values.state,
    metadataBaseUrl: values["metadata-url"],
    targetDir: values.out,
    targetBaseUrl: values["targets-url"],
    // One try: a hostile source must not be asked again and again.
    config: { fetchRetries: 0, fetchRetry: 0, fetchTimeout: 10000 },
  });
  await client.refresh();
  for (const [number, name] of positionals.entries()) {
    const target = await client.getTargetInfo(name);
    if (!target) {
      throw new Error(`${name}: target not found`);
    }
    const file = path.join(values.out, `${number}.target`);
    await client.downloadTarget(target, file);
    said.targets.push({
      path: name,
      length: target.length,
      sha256: target.hashes.sha256,
      file,
    });
  }
  // The set of trusted metadata is private in TypeScript only.
  for (const [role, metadata] of Object.entries(client.trustedSet.trustedSet)) {
    said.versions[role] = metadata.signed.version;
  }
}

const said = { ok: false, versions: {}, targets: [] };
run(said)
  .then(() => {
    said.ok = true;
  })
  .catch((why) => {
    said.error = String(why && why.message ? why.message : why);
    process.exitCode = 1;
  })
  .finally(() => {
    process.stdout.write(`${JSON.stringify(said)}\n`);
  });
