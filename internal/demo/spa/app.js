// The demo app. It holds no token and knows none: it asks /auth/session who is there, and calls its API.
'use strict'

const $ = (id) => document.getElementById(id)
const show = (element, visible) => { element.hidden = !visible }
const make = (tag, text, name) => {
  const element = document.createElement(tag)
  if (text !== undefined) element.textContent = text
  if (name) element.className = name
  return element
}

let session = null // what /auth/session said last

const sentences = {
  invalid_credentials: 'Wrong user name or password.',
  account_blocked: 'This account is blocked.',
  password_breached: 'This password is known from a data breach. Choose a new one.',
  access_denied: 'The provider does not let you in.',
  too_many_attempts: 'Too many attempts. Wait a little.',
  provider_unavailable: 'The provider cannot be reached. Try again in a moment.',
  store_unavailable: 'The session store cannot be reached. Try again in a moment.',
  invalid_request: 'Type both user name and password.',
}

async function problemOf (response) {
  try { return await response.json() } catch { return { code: 'status_' + response.status } }
}

function complain (id, text) {
  $(id).textContent = text || ''
  show($(id), Boolean(text))
}

// Who is logged in? Asking does not count as activity.
async function refresh () {
  const response = await fetch('/auth/session')
  session = response.ok ? await response.json() : { authenticated: false }
  render()
  if (session.authenticated) await orders()
}

function render () {
  show($('login'), !session.authenticated)
  show($('app'), session.authenticated)
  show($('who'), session.authenticated)
  if (!session.authenticated) return
  $('user').textContent = session.user.name || session.user.sub
  const time = (s) => new Date(s).toLocaleString()
  const facts = [
    ['User', session.user.email || session.user.sub], ['Provider', session.session.provider],
    ['Logged in', time(session.session.auth_time)], ['Ends, if unused', time(session.session.idle_expires_at)], ['Handle', session.session.id.slice(0, 12) + '… (opens nothing)'],
  ]
  $('facts').replaceChildren(...facts.flatMap(([name, value]) => [make('dt', name), make('dd', value)]))
  const cookie = document.cookie
  const proof = [
    [cookie === '', cookie === '' ? 'document.cookie is empty: the ticket is HttpOnly' : 'document.cookie holds: ' + cookie],
    [localStorage.length === 0, `localStorage holds ${localStorage.length} entries`],
    [sessionStorage.length === 0, `sessionStorage holds ${sessionStorage.length} entries`],
    [!/access_token|refresh_token|id_token/.test(JSON.stringify(session)), 'no token in /auth/session'],
  ]
  $('proof').replaceChildren(...proof.map(([good, text]) => make('li', text, good ? '' : 'bad')))
}

function ended () {
  session = { authenticated: false }
  render()
  complain('login-problem', 'Your session has ended. Log in again.')
  $('username').focus()
}

// Every call to the API goes through here: a plain fetch, and one look at the status.
async function api (path, options) {
  const response = await fetch(path, options)
  if (response.status === 401) { ended(); return null }
  if (!response.ok) {
    const problem = await problemOf(response)
    complain('api-problem', sentences[problem.code] || 'The API answered ' + response.status + '.')
    return null
  }
  complain('api-problem', '')
  return response.json()
}

async function orders () {
  const list = await api('/api/orders')
  if (!list) return
  const items = list.slice().reverse().slice(0, 6).map((order) => {
    const item = make('li')
    item.append(make('span', '#' + order.number), make('span', order.item))
    return item
  })
  $('orders').replaceChildren(...(items.length ? items : [make('li', 'Nothing handed over yet.', 'empty')]))
}

$('login-form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const form = new FormData(event.target)
  $('login-button').disabled = true
  complain('login-problem', '')
  try {
    const response = await fetch('/auth/login', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ username: form.get('username'), password: form.get('password'), remember: form.get('remember') === 'on' }),
    })
    if (response.status === 200) {
      event.target.reset()
      await refresh()
      $('item').focus()
      return
    }
    const answer = await problemOf(response)
    if (response.status === 202 && answer.status === 'redirect') { location.assign(answer.url); return }
    complain('login-problem', sentences[answer.code] || answer.title || 'That did not work.')
    $('password').focus()
  } catch {
    complain('login-problem', 'The server cannot be reached.')
  } finally {
    $('login-button').disabled = false
  }
})

$('order-form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const item = $('item').value.trim()
  if (!item) return
  const made = await api('/api/orders', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ item }) })
  if (made) { $('item').value = ''; await orders() }
})

$('burst').addEventListener('click', async () => {
  $('burst').disabled = true
  $('burst-result').textContent = '…'
  const began = performance.now()
  const answers = await Promise.all(Array.from({ length: 50 }, () => fetch('/api/me').then((r) => r.status, () => 0)))
  const good = answers.filter((status) => status === 200).length
  $('burst-result').textContent = `${good} of 50 answered 200 in ${Math.round(performance.now() - began)} ms`
  $('burst').disabled = false
  if (answers.includes(401)) ended()
})

$('logout').addEventListener('click', async () => {
  const response = await fetch('/auth/logout', { method: 'POST' })
  if (!response.ok) { complain('api-problem', 'Logging out did not work. Try again.'); return }
  const answer = await response.json()
  if (answer.logout_url) { location.assign(answer.logout_url); return }
  session = { authenticated: false }
  render()
  complain('login-problem', '')
  $('username').focus()
})

// The log: short answers instead of an open stream, and only for the tab that is looked at, so that many tabs stay
// responsive over HTTP/1.1. It is marked passive: watching is not activity.
let last = 0
let lastRefresh = 0
async function pollLog () {
  if (document.hidden || !session || !session.authenticated) return
  let answer
  try { answer = await (await fetch('/demo/log?after=' + last, { headers: { 'X-Cloakroom-Passive': '1' } })).json() } catch { return }
  if (answer.last < last) $('log').replaceChildren()
  last = answer.last
  for (const line of answer.lines) {
    if (again(line)) continue
    const row = make('tr', undefined, line.who)
    const token = line.what.includes('refresh_token') || line.what.includes('authorization_code') || line.what.includes('password')
    if (token && line.who === 'cloakroom') lastRefresh = Date.parse(line.time)
    if (line.what.includes('refresh_token')) row.classList.add('refresh')
    const result = make('td', line.result)
    if (line.note) result.append(make('small', line.note))
    row.dataset.line = line.who + line.what + line.result
    row.append(make('td', new Date(line.time).toLocaleTimeString()), make('td', line.who), make('td', line.what), result)
    $('log').prepend(row)
  }
  while ($('log').rows.length > 100) $('log').lastElementChild.remove()
}

// again counts a line that says the same as the newest one.
function again (line) {
  const newest = $('log').firstElementChild
  if (!newest || line.note || newest.dataset.line !== line.who + line.what + line.result) return false
  newest.dataset.count = Number(newest.dataset.count || 1) + 1
  newest.cells[0].textContent = new Date(line.time).toLocaleTimeString()
  newest.cells[2].replaceChildren(line.what + ' ', make('b', '× ' + newest.dataset.count))
  return true
}

function countdown () {
  if (!lastRefresh) return
  const left = Math.ceil((lastRefresh + 30000 - Date.now()) / 1000)
  $('countdown').textContent = left > 0 ? `this access token is over in ${left} s` : 'the access token is over; the next call gets a new one'
}

setInterval(pollLog, 1000)
setInterval(countdown, 500)
setInterval(() => { if (!document.hidden && session && session.authenticated && $('auto').checked) orders() }, 5000)
document.addEventListener('visibilitychange', () => { if (!document.hidden && session && session.authenticated) refresh() })
refresh()
