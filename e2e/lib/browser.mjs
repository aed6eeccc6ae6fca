// Debian's Chromium, driven by playwright-core, with a recorder of everything that passes.
import { chromium } from 'playwright-core';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

// launch starts one browser. *.test leads to loopback, and only certificates with this public key pass.
export function launch({ spki, netlog } = {}) {
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
      ...(netlog ? [`--log-net-log=${netlog}`, '--net-log-capture-mode=Everything'] : []),
      ...(spki ? [`--ignore-certificate-errors-spki-list=${spki}`] : []),
    ],
    ignoreDefaultArgs: ['--disable-back-forward-cache', '--headless', '--disable-popup-blocking'], // as people have it
  });
}

// Recorder keeps what the pages saw, beside Chromium's network log: one {where, url, text} per URL, header block, body, message and console line.
export class Recorder {
  entries = [];

  pending = new Set();

  watch(context) {
    context.on('request', (request) => this.#later(this.#request(request)));
    context.on('response', (response) => this.#later(this.#response(response)));
    context.on('console', (message) => this.note('console', message.page()?.url() ?? '', message.text()));
    context.on('page', (page) => {
      page.on('framenavigated', (frame) => this.note('address', frame.url(), frame.url()));
      page.on('pageerror', (err) => this.note('console', page.url(), String(err)));
      page.on('websocket', (socket) => {
        for (const way of ['framesent', 'framereceived']) socket.on(way, ({ payload }) => this.note(way, socket.url(), String(payload)));
      });
    });
  }

  note(where, url, text) { if (text) this.entries.push({ where, url, text }); }

  async #request(request) {
    const url = request.url();
    this.note('request url', url, url);
    this.note('request body', url, request.postData());
    this.note('request headers', url, flat(await request.headersArray()));
  }

  async #response(response) {
    const url = response.url();
    this.note('response headers', url, flat(await response.headersArray()));
    if (response.status() >= 300 && response.status() < 400) return;
    this.note('response body', url, (await response.body()).toString('utf8'));
  }

  #later(promise) {
    const kept = promise.catch(() => {}).finally(() => this.pending.delete(kept));
    this.pending.add(kept);
  }

  // storage writes down what the pages of a context keep: cookies, local and session storage, IndexedDB and caches.
  async storage(context, origin) {
    for (const cookie of await context.cookies(origin)) {
      this.note('cookie', origin, `${cookie.name}=${cookie.value}`);
    }
    for (const page of context.pages()) {
      if (!page.url().startsWith(origin)) continue;
      this.note('storage', page.url(), await page.evaluate(storageOf));
    }
  }

  // settled waits for what is on its way, but not for ever: a page that was left gives its bodies to nobody. Chromium's
  // network log has their bytes all the same.
  async settled() {
    await Promise.race([Promise.all(this.pending), new Promise((done) => { setTimeout(done, 700); })]);
    this.pending.clear();
  }
}

const flat = (headers) => headers.map(({ name, value }) => `${name}: ${value}`).join('\n');

// storageOf runs in the page.
async function storageOf() {
  const databases = await indexedDB.databases();
  const cached = [];
  for (const name of window.caches ? await caches.keys() : []) cached.push(name, ...(await (await caches.open(name)).keys()).map((r) => r.url));
  return JSON.stringify({
    document: document.cookie, local: { ...localStorage }, session: { ...sessionStorage }, databases, cached,
    state: history.state, name: window.name, address: location.href,
  });
}
