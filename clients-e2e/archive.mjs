// Has agents speak through real sidecars, has the run archived, and lets a tool that knows nothing of
// Runcast read the archive: what DuckDB finds in the Parquet files must be what the agents said.
//
// `node archive.mjs BIN_DIR PYTHON`

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { atEnd, check, conclude, freePorts, limit, start, startRedis, until } from './stage.mjs';

const [binDir, python] = process.argv.slice(2);
const here = fileURLToPath(new URL('.', import.meta.url));
const RUN = 'clients-e2e-archive';
// Lines of all kinds: quotes, umlauts, empty ones, and enough of them for several batches.
const SPEAKING = 'i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); echo "$i: \\"Grüße\\" {} "; [ $((i % 7)) = 0 ] && echo; done; true';

limit(60_000);
await conclude(async () => {
  const archive = mkdtempSync(path.join(tmpdir(), 'runcast-archive-'));
  atEnd(() => rmSync(archive, { recursive: true, force: true }));
  await startRedis();
  const [http, admin] = (await freePorts(2)).map((port) => `127.0.0.1:${port}`);
  start('replay', path.join(binDir, 'runcast-replay'), [], {
    needed: true,
    env: {
      RUNCAST__HTTP__LISTEN: http,
      RUNCAST__ADMIN__LISTEN: admin,
      RUNCAST__ARCHIVE__URL: `file://${archive}`,
      RUNCAST__ARCHIVE__INTERVAL: '200ms',
    },
  });
  for (const variation of ['var-1', 'var-2']) {
    const args = ['--run', RUN, '--variation', variation, 'exec', '--', 'sh', '-c', SPEAKING];
    start(`sidecar ${variation}`, path.join(binDir, 'runcast-sidecar'), args, { env: { RUNCAST__RUN__VARIATIONS: 2 } });
  }
  await until('the run is archived', async () => {
    const archived = await fetch(`http://${http}/v1/archive/${RUN}`);
    return archived.ok && (await archived.json()).complete;
  });
  const client = start('duckdb', python, [path.join(here, 'client_duckdb.py'), archive, `http://${http}`, RUN], {
    transcript: true,
  });
  const code = await client.exit;
  const told = readFileSync(client.out, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));
  for (const { what, problem } of told) check('duckdb', what, problem);
  check('duckdb', 'came to its end', code !== 0 && `it exited with ${code} after ${told.length} checks`);
});
