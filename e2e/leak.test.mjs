// The leak check itself: it must find what is there, or its silence in all the other suites means nothing.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { leaks } from './lib/leaks.mjs';

const APP = 'https://app.test:1';
const SECRETS = new Map([
  ['acc3ss-token-value', 'access token'], ['r3fresh-token-value', 'refresh token'], ['id.token.value', 'ID token'],
  ['the-auth-code-1', 'authorization code'], ['verifier-verifier', 'code verifier'], ['pa ss&wörd', 'password'],
]);
const find = (where, url, text) => leaks([{ where, url, text }], SECRETS, APP).length > 0;

describe('the leak check', () => {
  test('finds a value in any place, in any spelling', () => {
    for (const [value] of SECRETS) {
      for (const where of ['response body', 'response headers', 'cookie', 'storage', 'console', 'log', 'address', 'framereceived']) {
        assert.ok(find(where, `${APP}/x`, `before ${value} after`), `${value} in ${where}`);
      }
    }
    assert.ok(find('log', 'cloakroom', 'pa%20ss%26w%C3%B6rd'));
    assert.ok(find('log', 'cloakroom', 'pa+ss%26w%C3%B6rd'));
    assert.ok(find('log', 'cloakroom', Buffer.from('acc3ss-token-value').toString('base64url')));
    assert.ok(find('request headers', `${APP}/`, `referer: ${APP}/auth/callback?code=the-auth-code-1`));
    assert.ok(find('response headers', `${APP}/auth/callback?code=the-auth-code-1`, 'location: /?code=the-auth-code-1'));
    assert.ok(find('response headers', `${APP}/x`, 'location: https://op/end?id_token_hint=id.token.value'));
    assert.ok(find('response body', `${APP}/auth/logout/continue`, 'id_token_hint=id.token.value'));
    assert.ok(find('request url', 'https://op/authorize', 'https://op/authorize?v=verifier-verifier'));
  });

  test('lets pass what the contract lets pass', () => {
    assert.ok(!find('request body', `${APP}/auth/login`, '{"password":"pa ss&wörd"}'));
    assert.ok(!find('request url', `${APP}/auth/callback?code=the-auth-code-1`, `${APP}/auth/callback?code=the-auth-code-1`));
    assert.ok(!find('response headers', `${APP}/auth/logout/continue`, 'location: https://op/end?id_token_hint=id.token.value&x=1'));
    assert.ok(!find('request url', 'https://op/end', 'https://op/end?id_token_hint=id.token.value'));
    assert.ok(!find('response body', `${APP}/`, 'nothing'));
  });
});
