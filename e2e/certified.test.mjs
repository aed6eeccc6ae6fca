// The form's second factor and a step-up by acr_values at the certified provider: the first through its extension API, with
// the grants that Auth0 and Okta have, the second as OpenID Connect has it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CAROL, GOLD } from './lib/op.mjs';
import { suite } from './lib/suite.mjs';

const options = { providers: ['certified'], profile: 'auth0', routes: `- {path: /vault/, upstream: UPSTREAM, require: {acr: "${GOLD}"}}` };

suite('certified', options, (s) => {
  for (const javaScriptEnabled of [true, false]) {
    test(`password and one-time code, ${javaScriptEnabled ? 'with' : 'without'} JavaScript`, async () => {
      const page = await s.open({ path: '/auth/login?return_to=/members/in', javaScriptEnabled });
      await page.locator('#username').fill(CAROL.name);
      await page.locator('#password').fill(CAROL.password);
      await page.locator('button[type=submit]').click();
      await page.locator('#code').fill('000000');
      await page.locator('button.primary').click();
      await page.getByRole('alert').waitFor();
      await page.locator('#code').fill(CAROL.code);
      await page.locator('button.primary').click();
      await page.waitForURL((url) => url.pathname === '/members/in');
    });
  }

  test('a route that wants a class: the hosted page asks for the code, and then the call works', async () => {
    const page = await s.open();
    const call = () => page.evaluate(async () => { const a = await fetch('/vault/x'); return [a.status, a.ok ? {} : await a.json()]; });
    const send = (address, body) => page.evaluate(async ([to, json]) => (await fetch(to, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(json) })).json(), [address, body]);
    assert.equal((await send('/auth/login', { username: CAROL.name, password: CAROL.password })).status, 'challenge');
    assert.equal((await send('/auth/login/step', { action: 'submit', code: CAROL.code })).status, 'done');
    const [status, problem] = await call();
    assert.deepEqual([status, problem.code, problem.step?.acr_values], [401, 'step_up_required', GOLD]);
    await page.goto(`${problem.step.url}&return_to=/`);
    await page.locator('input[name=otp]').fill(CAROL.code);
    await s.world.hostedLogin(page, CAROL.name, CAROL.password);
    await page.waitForURL((url) => url.origin === s.world.origin && url.pathname === '/');
    assert.equal((await call())[0], 200);
  });

  test('a login that does not reach the class is refused', async () => {
    const page = await s.open({ path: '' });
    await page.goto(`/auth/login?acr_values=${GOLD}&return_to=/`);
    await s.world.hostedLogin(page, CAROL.name, CAROL.password);
    await page.waitForURL((url) => url.pathname === '/auth/callback');
    assert.equal((await page.context().cookies(s.world.origin)).some((c) => c.name === s.world.cookie), false);
    await page.goto('/'); // the address of that page holds a code, which is spent
  });
});
