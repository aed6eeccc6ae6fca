// What every browser test file shares: a world, one browser, contexts with a recorder, and the leak check at the end.
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, afterEach, before, describe } from 'node:test';
import { launch, Recorder } from './browser.mjs';
import { leaks } from './leaks.mjs';
import { readNetlog } from './netlog.mjs';
import { PROVIDERS, startWorld } from './world.mjs';

// suite(name, options, body) runs body once per provider. body gets an object that is filled before the first test:
// {kind, world, browser, recorder, open(), get}. After the last one everything that the browsers saw and all that
// Cloakroom wrote is searched for every secret.
export function suite(name, options, body) {
  for (const kind of options.providers ?? PROVIDERS) {
    describe(`${name} (${kind})`, { timeout: 300_000 }, () => {
      const s = { kind, recorder: new Recorder(), tickets: new Set() };
      const contexts = new Set();
      before(async () => {
        s.world = await startWorld(kind, { name, ...options });
        s.browser = await launch({ spki: s.world.certs?.spki, netlog: path.join(s.world.dir, 'netlog.json') });
      });
      // open makes a fresh browser profile with one page on the app.
      s.open = async ({ path = '/', ...more } = {}) => {
        const context = await s.browser.newContext({ baseURL: s.world.origin, ...more });
        context.setDefaultTimeout(15_000);
        contexts.add(context);
        s.recorder.watch(context);
        const page = await context.newPage();
        if (path) await page.goto(path);
        return page;
      };
      s.close = async (context) => {
        contexts.delete(context);
        const ticket = (await context.cookies(s.world.origin)).find((c) => c.name === s.world.cookie);
        if (ticket) s.tickets.add(ticket.value);
        await s.recorder.settled();
        await s.recorder.storage(context, s.world.origin);
        await context.close();
      };
      afterEach(async () => { for (const context of contexts) await s.close(context); });
      after(async () => {
        await s.browser?.close();
        await s.world?.close();
        if (!s.world) return;
        s.recorder.entries.push(...readNetlog(path.join(s.world.dir, 'netlog.json')));
        assert.deepEqual(searchAll(s), [], 'secrets where none may be');
      });
      body(s);
    });
  }
}

// searchAll is the leak check over all that one suite recorded.
export function searchAll({ world, recorder, tickets }) {
  const entries = [...recorder.entries, { where: 'log', url: 'cloakroom', text: world.logs() }];
  const found = leaks(entries, world.secrets(), world.origin);
  for (const ticket of tickets) {
    for (const { where, url, text } of entries) {
      if (text.includes(ticket) && !['request headers', 'response headers', 'cookie'].includes(where)) found.push(`ticket in ${where} of ${url}`);
    }
  }
  return [...new Set(found)];
}

// api calls the API from the page, as the app's own code does: plain fetch, same origin, no header added.
export function api(page, path = '/api/hello', init = {}) {
  return page.evaluate(async ([p, i]) => {
    const answer = await fetch(p, i);
    return { status: answer.status, text: await answer.text(), redirected: answer.redirected };
  }, [path, init]);
}

export const session = (page) => page.evaluate(async () => (await fetch('/auth/session')).json());

// formLogin fills the built-in page as a person does.
export async function formLogin(page, username, password, returnTo = '') {
  await page.goto(`/auth/login${returnTo && `?return_to=${encodeURIComponent(returnTo)}`}`);
  await page.locator('input[name=username]').fill(username);
  await page.locator('input[name=password]').fill(password);
  await page.locator('form[action^="/auth/login"] [type=submit]').first().click();
}

// loggedIn opens a profile that has logged in by the form.
export async function loggedIn(s, user = Object.keys(s.world.users)[0], more = {}) {
  const page = await s.open({ path: '', ...more });
  await formLogin(page, user, s.world.users[user]);
  await page.waitForURL(`${s.world.origin}/`);
  return page;
}
