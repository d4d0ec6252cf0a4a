// A component of request analysis, Rust; transpiled by jco, which takes a component apart for Node.

import { bytes, load, report } from './lib.mjs';

const { transpileBytes } = await load('@bytecodealliance', 'jco-transpile', 'dist', 'index.js');
const transpiled = await transpileBytes(bytes, {
  name: 'component',
  instantiation: 'async',
  wasiShim: false,
  noNodejsCompat: true,
});
const files = new Map(Object.entries(transpiled.files));
const code = Buffer.from(files.get('component.js')).toString('base64');
const { instantiate } = await import(`data:text/javascript;base64,${code}`);

const component = await instantiate((path) => WebAssembly.compile(files.get(path)), {
  'arcjet:js-req/bot-identifier': { detect: () => [] },
  'arcjet:js-req/email-validator-overrides': {
    isFreeEmail: (domain) => (domain === 'free.example' ? 'yes' : 'no'),
    isDisposableEmail: () => 'unknown',
    hasMxRecords: () => 'yes',
    hasGravatar: () => 'no',
  },
  'arcjet:js-req/filter-overrides': { ipLookup: () => undefined },
  'arcjet:js-req/sensitive-information-identifier': {
    detect: (tokens) => tokens.map((it) => (it === 'hunter2' ? { tag: 'custom', val: 'password' } : undefined)),
  },
  'arcjet:js-req/verify-bot': { verify: () => 'unverifiable' },
});

/** Calls an export and reports its result or its error. */
function call(name, ...args) {
  try {
    report(name, component[name](...args) ?? 'done');
  } catch (error) {
    report(name, `error: ${error.message}`);
  }
}

const request = JSON.stringify({
  ip: '203.0.113.7',
  method: 'POST',
  host: 'example.com',
  path: '/login',
  headers: { 'user-agent': 'curl/8.5.0', accept: '*/*' },
  cookies: 'session=1',
  query: '?next=%2F',
});

for (const candidate of ['a.b+c@example.com', 'me@free.example', 'me@localhost', 'no-at-sign', 'x@[127.0.0.1]']) {
  call('isValidEmail', candidate, {
    tag: 'deny-email-validation-config',
    val: { requireTopLevelDomain: true, allowDomainLiteral: false, deny: ['FREE', 'INVALID'] },
  });
}
call('detectBot', request, {
  tag: 'denied-bot-config',
  val: { entities: ['CURL'], skipCustomDetect: false },
});
call('detectBot', '{', { tag: 'allowed-bot-config', val: { entities: [], skipCustomDetect: true } });
call('generateFingerprint', request, ['ip.src', 'http.request.headers["user-agent"]']);
call('validateCharacteristics', request, ['unknown.thing']);
call(
  'detectSensitiveInfo',
  'Mail jo@example.com or call 555-010-4477 from 192.0.2.1, card 4242424242424242, hunter2',
  { entities: { tag: 'deny', val: [{ tag: 'email' }, { tag: 'custom', val: 'password' }] }, contextWindowSize: 1, skipCustomDetect: false },
);
call('matchFilters', request, '{}', ['http.request.method eq "POST"', 'ip.src in { 203.0.113.0/24 }'], false);
call('matchFilters', request, '{}', ['no such field'], false);
