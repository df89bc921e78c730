// Requests to the server, with the token.

export const API = '/api/v1';
export const experimentPath = (name) => `${API}/experiments/${encodeURIComponent(name)}`;
export const stagePath = (key) => `${API}/stages/${key}`;
export const artifactPath = (key, file) =>
  `${stagePath(key)}/artifacts/${file.split('/').map(encodeURIComponent).join('/')}`;

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

// The token, kept in this browser tab only.
export const session = {
  get token() {
    return sessionStorage.getItem('filo-token') || '';
  },
  set token(value) {
    if (value)
      sessionStorage.setItem('filo-token', value);
    else
      sessionStorage.removeItem('filo-token');
  },
};

let tokenRefused = () => {};
export function onTokenRefused(listener) {
  tokenRefused = listener;
}

async function detailOf(response) {
  try {
    return (await response.json()).detail || response.statusText;
  } catch {
    return response.statusText;  // not of this server's making
  }
}

// The response; throws Refused for an error's.
export async function request(path, options = {}) {
  const token = session.token;
  const headers = {Authorization: 'Bearer ' + token, ...(options.headers || {})};
  const response = await fetch(path, {...options, headers, cache: 'no-store', credentials: 'omit'});
  if (response.ok || response.status === 304) return response;
  const detail = await detailOf(response);
  // Else it was asked for, and perhaps given, meanwhile.
  if (response.status === 401 && token === session.token) tokenRefused();
  throw new Refused(response.status, detail);
}

export const json = async (path, options) => (await request(path, options)).json();

// As json(), but the former answer when nothing has changed since.
const remembered = new Map();
export async function jsonIfNew(path) {
  const known = remembered.get(path);
  const response = await request(path, known ? {headers: {'If-None-Match': known.tag}} : {});
  if (response.status === 304) return known.value;
  const entry = {tag: response.headers.get('ETag'), value: await response.json()};
  if (remembered.size > 50) remembered.clear();
  remembered.set(path, entry);
  return entry.value;
}
