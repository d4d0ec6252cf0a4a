// SQLite, C built by Emscripten.

import { bytes, report, reportDigest, require } from './lib.mjs';

const SQL = await require('sql.js')({ wasmBinary: bytes });
const db = new SQL.Database();

db.run('CREATE TABLE request (path TEXT, status INTEGER, ms REAL)');
const insert = db.prepare('INSERT INTO request VALUES (?, ?, ?)');
for (let i = 0; i < 500; i += 1) {
  insert.run([`/item/${i % 7}`, i % 11 === 0 ? 500 : 200, (i * 37) % 101 + 0.25]);
}
insert.free();
db.run('CREATE INDEX by_path ON request (path, status)');

report('version', db.exec('SELECT sqlite_version()')[0].values);
for (const query of [
  'SELECT path, count(*), avg(ms), max(status) FROM request GROUP BY path ORDER BY path',
  "SELECT upper(path), round(ms / 3, 4), printf('%08.3f', ms) FROM request LIMIT 3",
  'SELECT ms, sum(ms) OVER (ORDER BY rowid) FROM request WHERE status = 500 LIMIT 5',
  "SELECT json_extract('{\"a\":[1,2.5,\"x\"]}', '$.a[1]'), hex(zeroblob(4)), 7 / 0",
  "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i * 3 FROM n WHERE i < 1e15) SELECT max(i) FROM n",
]) {
  report(query, db.exec(query)[0].values);
}
try {
  db.exec('SELECT nothing FROM nowhere');
} catch (error) {
  report('error', error.message);
}
reportDigest('database', db.export());
