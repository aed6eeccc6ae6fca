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
  follow()
  if (session.authenticated) await Promise.all([orders(), sessions()])
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

const farewells = {
  user: 'Your session was ended from another device. Log in again.',
  logout: 'You are logged out.',
  logout_everywhere: 'You were logged out on all your devices.',
  idle: 'You were away for long, so you are logged out. Log in again.',
}

function ended (reason) {
  if (session && !session.authenticated) return
  session = { authenticated: false }
  render()
  follow()
  show($('ending'), false)
  complain('login-problem', farewells[reason] || 'Your session has ended. Log in again.')
  $('username').focus()
}

// The list of the user's own sessions.
async function sessions () {
  const response = await fetch('/auth/sessions')
  if (response.status === 401) { ended(); return }
  if (!response.ok) { complain('sessions-problem', 'Your sessions cannot be listed now.'); return }
  complain('sessions-problem', '')
  const list = (await response.json()).sessions
  const rows = list.map((one) => {
    const item = make('li')
    const about = make('div')
    const device = make('strong', one.device || 'Unknown device')
    about.append(device)
    if (one.current) about.append(make('span', 'this one', 'tag'))
    about.append(make('small', `${one.address} · active ${new Date(one.last_active_at).toLocaleString()}`))
    item.append(about)
    if (!one.current) {
      const button = make('button', 'End', 'ghost')
      button.setAttribute('aria-label', `End ${device.textContent}, active ${new Date(one.last_active_at).toLocaleString()}`)
      button.addEventListener('click', () => end('/auth/sessions/' + one.id, button))
      item.append(button)
    }
    return item
  })
  $('sessions').replaceChildren(...rows)
  show($('end-others'), list.length > 1)
}

async function end (path, button) {
  button.disabled = true
  const response = await fetch(path, { method: 'DELETE' })
  button.disabled = false
  if (response.status === 401) { ended(); return }
  const gone = response.status === 204 || response.status === 404 // 404: somebody was faster
  if (gone) await sessions()
  complain('sessions-problem', gone ? '' : 'That did not work. Try again.')
  if (gone) $('sessions-title').scrollIntoView({ block: 'nearest' })
}

// What becomes of the session, told by the server. A browser keeps one stream for all its tabs: the tab that holds the
// lock has it, and passes on what it hears. So many tabs stay responsive over HTTP/1.1.
const channel = new BroadcastChannel('cloakroom-events')
let following = null // ends what runs

function follow () {
  if (!session.authenticated) { if (following) following.abort(); following = null; return }
  if (following) return
  const own = following = new AbortController()
  const turn = () => listen(own.signal)
  const held = navigator.locks ? navigator.locks.request('cloakroom-events', { signal: own.signal }, turn) : turn()
  held.catch(() => {}) // given up while it waited for its turn
}

// listen keeps the stream until it is given up. It stays after "superseded", without a stream, as that asks for.
function listen (signal) {
  return new Promise((resolve) => {
    let source
    signal.addEventListener('abort', () => { if (source) source.close(); resolve() })
    const open = () => {
      if (signal.aborted) return
      source = new EventSource('/auth/events')
      const tell = (event) => { const told = { type: event.type, ...JSON.parse(event.data) }; channel.postMessage(told); hear(told) }
      for (const type of ['session_ending', 'session_changed', 'session_ended']) source.addEventListener(type, tell)
      source.addEventListener('session_ended', () => source.close())
      source.addEventListener('superseded', () => source.close())
      source.addEventListener('open', () => { $('live').textContent = 'this browser is told at once' })
      source.addEventListener('error', () => {
        $('live').textContent = ''
        if (source.readyState !== EventSource.CLOSED) return // it tries again by itself
        refresh().catch(() => {}) // over, or the server is ill: that is asked, and later tried again
        setTimeout(open, 5000)
      })
    }
    open()
  })
}

function hear (told) {
  switch (told.type) {
    case 'session_ended':
      if (told.reason !== 'replaced') { ended(told.reason); break }
      following?.abort() // a newer login of this browser: its session is to be followed instead
      following = null
      refresh()
      break
    case 'session_ending': show($('ending'), true); break
    case 'session_changed': show($('ending'), false); refresh(); break
    case 'logged_in': refresh(); break
  }
}
channel.addEventListener('message', (message) => hear(message.data))

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
      if (following) { following.abort(); following = null } // of a session before
      channel.postMessage({ type: 'logged_in' })
      await refresh()
      $('item').focus()
      return
    }
    const answer = await problemOf(response)
    if (response.status === 202) { // a further step: at the provider's page, or on Cloakroom's own
      location.assign(answer.url || `/auth/login/step?transaction=${encodeURIComponent(answer.transaction)}`)
      return
    }
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

$('end-others').addEventListener('click', (event) => end('/auth/sessions', event.target))

$('stay').addEventListener('click', async () => {
  const response = await fetch('/auth/session/touch', { method: 'POST' })
  if (response.status === 401) { ended(); return }
  show($('ending'), false)
})

$('logout').addEventListener('click', async () => {
  const response = await fetch('/auth/logout', { method: 'POST' })
  if (!response.ok) { complain('api-problem', 'Logging out did not work. Try again.'); return }
  const answer = await response.json()
  if (answer.logout_url) { location.assign(answer.logout_url); return }
  session = { authenticated: false }
  render()
  follow()
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
setInterval(() => { if (!document.hidden && session && session.authenticated) sessions() }, 10000)
setInterval(() => { if (!document.hidden && session && session.authenticated && $('auto').checked) orders() }, 5000)
document.addEventListener('visibilitychange', () => { if (!document.hidden && session && session.authenticated) refresh() })
refresh()
