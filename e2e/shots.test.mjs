// A picture of each page, wide and narrow, light and dark, into shots/: for people to look at. What can be checked by
// a machine is checked: nothing wider than the window, and text that can be told from its ground.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { ROOT } from './lib/process.mjs';
import { formLogin, loggedIn, suite } from './lib/suite.mjs';

const DEVICES = [
  'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1',
];
const SHOTS = path.join(ROOT, 'e2e', 'shots');

suite('shots', {}, (s) => {
  for (const width of [1280, 390]) {
    for (const colorScheme of ['light', 'dark']) {
      test(`${width} px, ${colorScheme}`, async () => {
        fs.mkdirSync(SHOTS, { recursive: true });
        const page = await s.open({ path: '', viewport: { width, height: width === 390 ? 844 : 800 }, colorScheme });
        const shot = async (name) => {
          await page.screenshot({ path: path.join(SHOTS, `${s.kind}-${name}-${width}-${colorScheme}.png`), fullPage: true });
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          assert.ok(wide <= 0, `${name} is ${wide} px wider than the window`);
          if (s.kind === 'demo' || name !== 'app') assert.deepEqual(await page.evaluate(faint), [], `text that is hard to read on ${name}`);
        };
        const [user, password] = Object.entries(s.world.users)[0];
        await page.goto('/auth/login');
        await shot('login');
        await formLogin(page, user, 'not the password');
        await page.locator('[role=alert]').waitFor();
        await shot('login-wrong');
        await page.goto('/auth/callback?code=x&state=y');
        await shot('callback-broken');
        await page.goto('/');
        await shot('app-out');
        await formLogin(page, user, password);
        await page.waitForURL(`${s.world.origin}/`);
        await page.waitForLoadState('networkidle', { timeout: 2000 }).catch(() => {});
        await shot('app');
        const others = [];
        for (const userAgent of DEVICES) others.push(await loggedIn(s, user, { userAgent }));
        await page.goto('/auth/sessions');
        await shot('sessions');
        for (const other of others) await s.close(other.context());
        await page.goto('/auth/logout');
        await shot('logout');
      });
    }
  }
});

// faint runs in the page: it lists texts whose contrast with their ground is under 4.5 (WCAG 2.2, 1.4.3; 3 if large).
function faint() {
  const channel = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (css) => { paint.clearRect(0, 0, 1, 1); paint.fillStyle = css; paint.fillRect(0, 0, 1, 1); return [...paint.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
  const over = ([r, g, b, a], [r2, g2, b2]) => { const k = a / 255; return [r * k + r2 * (1 - k), g * k + g2 * (1 - k), b * k + b2 * (1 - k), 255]; };
  const base = rgba(matchMedia('(prefers-color-scheme: dark)').matches ? 'Canvas' : 'white');
  const ground = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.backgroundImage !== 'none') return null; // a picture: for the eye
      layers.push(rgba(style.backgroundColor));
      if (layers.at(-1)[3] === 255) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), base);
  };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    const style = getComputedStyle(e);
    if (!own || style.visibility === 'hidden' || !e.getClientRects().length || e.matches(':disabled, script, style')) continue;
    if (e.getClientRects()[0].width <= 1) continue; // for screen readers only
    const below = ground(e);
    if (!below) continue;
    const [a, b] = [light(over(rgba(style.color), below)), light(below)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.push(`${ratio.toFixed(2)} ${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 40)}`);
  }
  return bad;
}
