// The own-domain login with all that a provider can ask for: `cloakroom idp` in each dialect, in a real browser, with and
// without JavaScript, with the keyboard, and by the app's own fetch. At the end: no secret anywhere, and every state of
// every page by axe-core.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { launch, Recorder } from './lib/browser.mjs';
import { makeCerts } from './lib/certs.mjs';
import { codeOf, holdPort, HOME, leaksOf, people, Plain, Reader, Script, startFront, startIDP, Typist, WRONG } from './lib/idp.mjs';
import { readNetlog } from './lib/netlog.mjs';
import { workDir } from './lib/process.mjs';

const DIALECTS = ['generic', 'challenge', 'auth0', 'okta', 'keycloak', 'entra', 'cognito'];
const STEPPING = ['challenge', 'auth0', 'okta', 'cognito'];
const WAYS = {
  page: { what: 'built-in pages', make: Reader },
  plain: { what: 'without JavaScript', make: Plain, context: { javaScriptEnabled: false } },
  keys: { what: 'with the keyboard', make: Typist },
  script: { what: 'by fetch', make: Script },
};
const PAGES = ['page', 'plain'];
const ALL = ['page', 'plain', 'script'];
const AXE = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

describe('steps', { timeout: 300_000, concurrency: 5 }, () => {
  const fronts = {};
  const idps = {};
  const recorder = new Recorder();
  const profiles = {}; // pages that nobody uses now
  let browser;
  let dir;

  before(async () => {
    dir = workDir('steps');
    const certs = makeCerts(dir);
    process.env.SSL_CERT_FILE = certs.ca;
    const started = DIALECTS.map(async (dialect) => {
      const held = await holdPort();
      const idp = idps[dialect] = await startIDP({ dialect, dir, apps: [`https://app.test:${held.port}`], users: people(dialect, [...Object.keys(WAYS), 'axe', 'said', 'led']) });
      const provider = `password_login: true\n        profile: ${dialect === 'challenge' ? 'generic' : dialect}`;
      fronts[dialect] = await startFront({ idp, name: dialect, dir, certs, held, provider });
    });
    browser = await launch({ spki: certs.spki, netlog: path.join(dir, 'netlog.json') });
    const failed = (await Promise.allSettled(started)).find((r) => r.status === 'rejected');
    if (failed) throw failed.reason;
  });

  after(async () => {
    await browser?.close();
    const all = Object.values(fronts);
    await Promise.all(all.map((front) => front.close()));
    await Promise.all(Object.values(idps).map((idp) => idp.close()));
    if (all.length !== DIALECTS.length) return;
    recorder.entries.push(...readNetlog(path.join(dir, 'netlog.json')));
    for (const front of all) {
      const { found, entries, secrets } = leaksOf(front, recorder.entries);
      assert.ok(entries > 50 && secrets > 20, `${front.name}: the leak check saw ${entries} texts and knows ${secrets} secrets`);
      assert.deepEqual(found, [], `${front.name}: secrets where none may be`);
    }
  });

  // visit lends a browser profile without cookies to one person. One that somebody failed in is thrown away.
  async function visit(dialect, { make, context: options }, run) {
    const front = fronts[dialect];
    const idle = profiles[`${dialect} ${options?.javaScriptEnabled}`] ??= [];
    const page = idle.pop() ?? await profile(front, options);
    const context = page.context();
    try {
      await run(new make(page, front), page, front);
      await recorder.storage(context, front.origin);
      await context.clearCookies();
      idle.push(page);
    } catch (err) {
      await context.close();
      throw err;
    }
  }

  async function profile(front, options) {
    const context = await browser.newContext({ baseURL: front.origin, viewport: { width: 640, height: 600 }, ...options });
    context.setDefaultTimeout(10_000);
    context.on('request', (request) => recorder.note('request body', request.url(), request.postData())); // the network log has all but these
    context.on('console', (message) => recorder.note('console', message.page()?.url() ?? '', message.text()));
    return context.newPage();
  }

  // each is one flow in several dialects and ways. body gets the person, the name to use, and what stands around.
  function each(flow, condition, dialects, ways, body) {
    for (const dialect of dialects) {
      for (const way of ways) {
        // In the normal run each dialect has one kind of page; STEPS=long has all.
        const twin = ['auth0', 'challenge'].includes(dialect) ? 'plain' : 'page';
        if (way === twin && process.env.STEPS !== 'long' && ways.length > 1) continue;
        test(`${dialect}: ${flow}, ${WAYS[way].what}`, () => visit(dialect, WAYS[way], (p, page, front) => body(p, `${condition}-${way}`, { page, front, idp: front.idp, dialect, way })));
      }
    }
  }

  // --- the pages, by axe-core and by what it cannot see -----------------------------------------------------------------

  const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];

  // sound looks at the page as it is: in light and dark, wide, narrow, at 200 % and at 400 %, and with the Tab key.
  async function sound(page, name) {
    await page.evaluate(AXE);
    for (const [width, height, colorScheme] of [[1280, 800, 'light'], [1280, 800, 'dark'], [390, 844, 'light']]) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme });
      const bad = await page.evaluate(async (values) => (await window.axe.run({ runOnly: { type: 'tag', values }, resultTypes: ['violations'], preload: false })).violations
        .map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target} ${n.failureSummary}`).join('; ')}`), TAGS);
      assert.deepEqual(bad, [], `${name}, ${width} px, ${colorScheme}`);
    }
    const over = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    for (const [zoom, width, height] of [['400 %', 320, 256], ['200 %', 640, 400]]) {
      await page.setViewportSize({ width, height });
      assert.ok(await over() <= 0, `${name} scrolls sideways at ${zoom}`);
    }
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.evaluate(() => { document.documentElement.style.fontSize = '200%'; });
    assert.ok(await over() <= 0, `${name} scrolls sideways with text of twice the size`);
    await page.evaluate(() => { document.documentElement.style.fontSize = ''; });
    await focusIsSeen(page, name);
  }

  // focusIsSeen goes round with the Tab key: everything is reached, in the order of the page, and one sees where one is.
  async function focusIsSeen(page, name) {
    const all = await page.evaluate(() => {
      window.stops = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), summary')].filter((e) => e.checkVisibility());
      document.activeElement?.blur();
      return window.stops.length;
    });
    const seen = [];
    for (let i = 0; i < 2 * all + 3 && new Set(seen).size < all; i++) {
      await page.keyboard.press('Tab');
      const { at, ring, inside } = await page.evaluate(() => {
        const e = document.activeElement;
        const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(e);
        const box = e.getBoundingClientRect();
        return {
          at: window.stops.indexOf(e), inside: box.top >= 0 && box.bottom <= innerHeight,
          ring: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 && outlineColor !== 'rgba(0, 0, 0, 0)',
        };
      });
      if (at < 0) continue;
      assert.ok(ring, `${name}: the focus on stop ${at} is not seen`);
      assert.ok(inside, `${name}: the focus on stop ${at} is out of sight`);
      seen.push(at);
    }
    const turned = seen.indexOf(0);
    assert.deepEqual([...seen.slice(turned), ...seen.slice(0, turned)], [...Array(all).keys()], `${name}: the order of the Tab key`);
  }

  const axe = (name, dialect, body) => test(`axe, zoom and focus: ${name}`, () => visit(dialect, WAYS.page, async (p, page, front) => body(p, { page, idp: front.idp, look: (state) => sound(page, `${name}, ${state}`) })));

  axe('login and logout', 'auth0', async (p, { page, look }) => {
    await page.goto('/auth/login');
    await look('login');
    await p.login('plain-axe', 'not the password');
    await p.refused('invalid_credentials');
    await look('login with an error');
    await p.login('locked-axe');
    await p.refused('account_blocked');
    await look('blocked');
    await page.goto('/auth/callback?code=x&state=y');
    await look('login_failed');
    await p.login('plain-axe');
    await p.done();
    await visit('auth0', WAYS.page, async (other) => {
      await other.login('plain-axe');
      await other.done();
      await page.goto('/auth/sessions');
      assert.equal(await page.locator('.sessions li').count(), 2);
      await look('sessions');
    });
    await page.goto('/auth/logout');
    await look('logout');
  });

  axe('codes', 'auth0', async (p, { look, idp }) => {
    await p.login('sms-axe');
    await look('choose');
    await p.choose('sms', '5678');
    await look('code');
    await p.submit(WRONG);
    await p.wrong('wrong_code');
    await look('code with an error');
    await p.login('recover-axe');
    await p.choose('recovery_code');
    await look('recovery code');
    await p.submit(idp.users.get('recover-axe').factors[1].secret);
    await look('new recovery code');
  });

  axe('push, rejected', 'auth0', async (p, { look }) => {
    await p.login('refuser-axe');
    await p.choose('push');
    p.plain = true; // whoever presses the button need not wait
    await p.confirmed();
    await p.wrong('declined');
    await look('the way on');
  });

  for (const dialect of ['auth0', 'challenge']) {
    axe('push', dialect, async (p, { page, look }) => {
      await p.login('waiter-axe');
      await p.choose('push');
      if (dialect === 'challenge') assert.equal(await p.number(), '42');
      await page.route('**/auth/login/step', (route) => route.fulfill({ status: 204 })); // the page stays while it is looked at
      await look(dialect === 'challenge' ? 'with a number' : 'without a number');
      await page.unrouteAll({ behavior: 'ignoreErrors' });
    });
  }

  axe('first factor', 'auth0', async (p, { look }) => {
    await p.login('newcomer-axe');
    await look('which one');
    await p.enroll('otp');
    await look('picture and secret');
  });

  axe('new password', 'cognito', async (p, { look }) => {
    await p.login('expired-axe');
    await look('new password');
  });

  // --- the flows, the longest waits first -----------------------------------------------------------------------------------

  each('push', 'push', ['auth0', 'challenge', 'okta'], ALL, async (p, user, { dialect }) => {
    await p.login(user);
    await p.pick('push');
    await p.asks('push');
    if (dialect !== 'auth0') assert.equal(await p.number(), '42');
    await p.confirmed();
    await p.done();
  });

  // What each provider says decides: where a blocked account looks like a wrong password, it does here.
  const REFUSED = {
    generic: { denied: 'access_denied' },
    challenge: { locked: 'access_denied', denied: 'access_denied' },
    auth0: { locked: 'account_blocked', breached: 'password_breached', denied: 'access_denied' },
    okta: { locked: 'invalid_credentials', denied: 'access_denied' },
    keycloak: { locked: 'invalid_credentials', denied: 'access_denied' },
    entra: { locked: 'invalid_credentials' },
    cognito: { locked: 'invalid_credentials', denied: 'access_denied' },
  };
  each('password: wrong, of blocked accounts, right', 'plain', DIALECTS, ALL, async (p, user, { dialect, way }) => {
    await p.login(user, 'not the password');
    await p.refused('invalid_credentials');
    for (const [condition, code] of Object.entries(REFUSED[dialect])) {
      await p.login(`${condition}-${way}`);
      await p.refused(code);
    }
    await p.login(user);
    await p.done();
  });

  // A provider whose words nobody knows is not one that is down: its own page says what is wrong.
  each('locked', 'locked', ['generic'], ['script'], async (p, user) => {
    await p.login(user);
    p.says(202, 'redirect');
    assert.equal(p.step.reason, 'provider_policy');
  });

  each('one-time code', 'otp', STEPPING, ALL, async (p, user, { idp }) => {
    await p.login(user);
    await p.pick('otp');
    await p.asks('code');
    await p.submit(WRONG);
    await p.wrong('wrong_code');
    await p.submit(await idp.otp(user));
    await p.done();
  });

  each('one-time code', 'otp', ['auth0'], ['keys'], async (p, user, { idp }) => {
    await p.login(user);
    await p.asks('code');
    await p.submit(await idp.otp(user));
    await p.done();
  });

  each('one-time code with the password', 'otp', ['keycloak'], ALL, async (p, user, { idp }) => {
    await p.login(user, undefined, { otp: WRONG });
    await p.refused('invalid_credentials');
    await p.login(user, undefined, { otp: await idp.otp(user) });
    await p.done();
  });

  each('second factor at the hosted page', 'otp', ['generic', 'entra'], PAGES, async (p, user) => {
    await p.login(user);
    await p.redirected(user);
    await p.done();
  });

  for (const [dialects, ways] of [[['auth0'], ALL.concat('keys')], [['challenge'], PAGES]]) {
    each('text message to one of three', 'sms', dialects, ways, async (p, user, { idp, way }) => {
      await p.login(user);
      await p.offers({ sms: 3, email: 1 });
      await p.choose('sms', '5678');
      await p.asks('code');
      if (idp.dialect === 'auth0' && way !== 'keys') {
        await p.resend();
        await p.asks('code');
        assert.equal((await idp.control('GET', `/messages?user=${user}`)).map((m) => m.to).join(), 'XXXXXXX5678,XXXXXXX5678');
        await p.submit(WRONG);
        await p.wrong('wrong_code');
      }
      await p.submit(` ${await idp.sent(user)} `);
      await p.done();
    });
  }

  each('text message, by type', 'sms', ['okta', 'cognito'], PAGES, async (p, user, { idp }) => {
    await p.login(user);
    await p.offers({ sms: 1, email: 1 });
    await p.choose('sms');
    await p.asks('code');
    await p.submit(await idp.sent(user));
    await p.done();
  });

  each('push, rejected, then another way', 'refuser', ['auth0', 'challenge', 'okta'], PAGES, async (p, user, { idp }) => {
    await p.login(user);
    await p.choose('push');
    await p.confirmed();
    await p.wrong('declined');
    await p.choose('otp');
    await p.submit(await idp.otp(user));
    await p.done();
  });

  each('recovery code', 'recover', ['auth0'], ALL, async (p, user, { idp, way }) => {
    const first = idp.users.get(user).factors[1].secret;
    await p.login(user);
    await p.choose('recovery_code');
    if (way === 'script') {
      await p.submit('WRONG-WRONG-WRONG');
      await p.wrong('wrong_code');
    }
    await p.submit(first);
    const [next, ...more] = await p.recovered();
    await p.done();
    assert.deepEqual([more, next === first], [[], false]);
    await visit('auth0', WAYS.script, async (again) => {
      await again.login(user);
      await again.choose('recovery_code');
      await again.submit(next);
      await again.done();
    });
  });

  each('first factor', 'newcomer', ['auth0', 'challenge', 'cognito'], ALL, async (p, user, { dialect, idp }) => {
    await p.login(user);
    await p.enroll('otp');
    const { secret, recovery } = await p.setup();
    assert.equal(recovery.length, dialect === 'cognito' ? 0 : 1);
    if (dialect === 'auth0') {
      await p.submit(WRONG);
      await p.wrong('wrong_code');
    }
    await p.submit(codeOf(secret));
    await p.done();
    assert.equal((await idp.control('GET', '/users')).find((u) => u.username === user).factors.length > 0, true);
  });

  each('password expired, new one at the hosted page', 'expired', ['auth0', 'entra'], PAGES, async (p, user) => {
    await p.login(user);
    await p.redirected(user);
    await p.done();
  });

  each('password expired, new one here', 'expired', ['cognito'], ALL, async (p, user) => {
    await p.login(user);
    await p.asks('password');
    await p.newPassword(`here ${user} 1`);
    await p.done();
    await visit('cognito', WAYS.script, async (again) => {
      await again.login(user, `here ${user} 1`);
      await again.done();
    });
  });

  each('not a robot: hosted page and back', 'robot', ['generic', 'challenge', 'auth0', 'entra'], PAGES, async (p, user) => {
    await p.login(user);
    await p.redirected(user);
    await p.done();
  });

  each('consent: hosted page and back', 'consent', ['generic', 'challenge', 'auth0', 'entra'], PAGES, async (p, user, { page, dialect, idp }) => {
    let asked; // the challenge's own login goes on: by request_uri
    page.on('request', (request) => { if (request.url().startsWith(`${idp.origin}/authorize?`)) asked = new URL(request.url()).searchParams; });
    await p.login(user);
    await p.redirected(user);
    await p.done();
    if (dialect === 'challenge') assert.deepEqual([asked.has('request_uri'), asked.has('scope')], [true, false]);
    page.removeAllListeners('request');
  });

  for (const [condition, status, reason] of [['robot', 'redirect', 'captcha'], ['consent', 'redirect', 'consent'], ['expired', 'password_change', undefined]]) {
    each(`${condition}: hosted page and back`, condition, ['auth0'], ['script'], async (p, user) => {
      await p.login(user);
      p.says(202, status);
      assert.equal(p.step.reason, reason);
      await p.redirected(user);
      await p.done();
    });
  }

  each('password leaked: hosted page and back', 'breached', ['generic', 'challenge', 'entra', 'keycloak'], PAGES, async (p, user) => {
    await p.login(user);
    await p.redirected(user);
    await p.done();
  });

  // tokenOver makes the API refuse the token that a call had, and the refresh that follows ask for a second factor.
  async function tokenOver(front, user, mark) {
    await front.idp.control('POST', `/users/${user}/mfa-at-refresh`, { on: true });
    front.idp.end(front.api.requests.findLast((r) => r.url.includes(mark) && r.ok).bearer);
  }
  const calling = (page, to) => page.evaluate(async (address) => {
    const answer = await fetch(address);
    const text = await answer.text();
    return { status: answer.status, problem: text.startsWith('{') ? JSON.parse(text) : {} };
  }, to);

  each('second factor at a refresh in the middle of a call', 'refresh', ['auth0', 'challenge'], ALL, async (p, user, { page, front, idp, way }) => {
    const to = `/${way === 'plain' ? 'pages' : 'api'}/middle-${way}`;
    const call = async () => {
      if (way !== 'plain') return (await calling(page, to)).status;
      const tab = await page.context().newPage();
      const answer = await tab.goto(to);
      const led = new URL(tab.url()).pathname === '/auth/login'; // a person on the way to a page is led there
      await tab.close();
      return led ? 401 : answer.status();
    };
    await p.login(user);
    await p.done();
    assert.equal(await call(), 200);
    await tokenOver(front, user, to);
    assert.equal(await call(), 401);
    if (way === 'script') {
      await p.send('/auth/login', { step_up: true, return_to: HOME });
    } else {
      await page.goto('/step-up.html');
      await p.press('button');
    }
    await p.pick('otp');
    await p.asks('code');
    if (way === 'script') {
      await p.submit(WRONG);
      await p.wrong('wrong_code');
    }
    await p.submit(await idp.otp(user));
    await p.done();
    assert.equal(await call(), 200);
  });

  for (const dialect of ['auth0', 'challenge']) {
    test(`${dialect}: a call whose refresh needs a second factor says step_up_required`, () => visit(dialect, WAYS.script, async (p, page, front) => {
      await p.login('refresh-said');
      await p.done();
      assert.equal((await calling(page, '/api/said')).status, 200);
      await tokenOver(front, 'refresh-said', '/api/said');
      const { status, problem } = await calling(page, '/api/said');
      assert.deepEqual([status, problem.code, problem.step?.status], [401, 'step_up_required', 'step_up'], JSON.stringify(problem));
    }));
  }

  test('auth0: a page whose refresh needs a second factor leads to it', () => visit('auth0', WAYS.plain, async (p, page, front) => {
    await p.login('refresh-led');
    await p.done();
    await page.goto('/pages/led');
    await tokenOver(front, 'refresh-led', '/pages/led');
    await page.goto('/pages/led');
    assert.ok(await page.locator('a[href^="/auth/login"], form[action^="/auth/login"]').count(), 'a dead end');
  }));
});
