// The app's own login: it asks Cloakroom and does what the answer says. It knows nothing of the provider, and is the same
// whether that is asked by password grant, at its challenge endpoint, or by its own page.
const form = document.querySelector('#form');
const said = document.querySelector('#said');
const home = new URLSearchParams(location.search).get('return_to') ?? '/';

async function post(path, body) {
  const answer = await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
  const json = await answer.json();
  if (answer.status === 404) return { status: 'redirect', url: `/auth/login/redirect?return_to=${encodeURIComponent(home)}` }; // no login by form
  return answer.ok ? json : { ...json, ...(json.step ?? { status: 'password' }), failed: json.code };
}

// ask shows fields and resolves with what was typed and which button was pressed.
function ask(fields, buttons) {
  form.replaceChildren(...fields.map(([name, label, type]) => {
    const line = document.createElement('label');
    const input = Object.assign(document.createElement('input'), { name, type, required: true });
    line.append(label, ' ', input);
    return line;
  }), ...buttons.map(([value, text]) => Object.assign(document.createElement('button'), { value, textContent: text })));
  return new Promise((done) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      done({ ...Object.fromEntries(new FormData(form)), button: event.submitter.value });
    };
  });
}

const steps = {
  async password() {
    const { username, password } = await ask([['username', 'User name', 'text'], ['password', 'Password', 'password']], [['', 'Log in']]);
    return post('/auth/login', { username, password, return_to: home });
  },
  async challenge({ transaction, factors, selected }) {
    const send = (body) => post('/auth/login/step', { transaction, ...body });
    if (!selected) return send({ action: 'choose', factor: (await ask([], factors.map((f) => [f.id, `${f.type} ${f.name}`]))).button });
    if (selected.input === 'code') return send({ action: 'submit', code: (await ask([['code', 'Code', 'text']], [['', 'Go on']])).code });
    form.textContent = selected.display_code ?? '';
    await new Promise((done) => { setTimeout(done, 1000 * selected.interval); });
    return send({ action: 'poll' });
  },
  async enroll({ transaction, factors, otp }) {
    const send = (body) => post('/auth/login/step', { transaction, ...body });
    if (!otp) return send({ action: 'enroll', factor: factors.find((f) => f.type === 'otp').id });
    const typed = ask([['code', otp.secret, 'text']], [['', 'Go on']]);
    return send({ action: 'submit', code: (await typed).code });
  },
  async password_change({ transaction, url, here }) {
    if (!here) return leave(url);
    return post('/auth/login/step', { transaction, action: 'submit', password: (await ask([['password', 'New password', 'password']], [['', 'Go on']])).password });
  },
  redirect: ({ url }) => leave(url),
  done: ({ return_to: to }) => leave(to),
};

function leave(url) {
  location.assign(url);
  return new Promise(() => {}); // the page is gone
}

for (let step = { status: 'password' }; ;) {
  said.textContent = step.failed ?? '';
  step = await steps[step.status](step);
}
