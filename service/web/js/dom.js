// Elements, and what stands on the page in every view. Text from the server only ever becomes text nodes.

export const main = document.getElementById('main');

// An element; `on...` attributes are listeners, children may be nested lists, and empty ones are left out.
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on'))
      element.addEventListener(name.slice(2), value);
    else if (name === 'class')
      element.className = value;
    else
      element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== ''));
  return element;
}

// Replaces only what differs, so that focus, scroll positions and open details outlive a refresh.
export function replaceIfChanged(holder, ...children) {
  const fresh = document.createElement(holder.tagName);
  fresh.append(...children.flat(9).filter(Boolean));
  if (fresh.innerHTML === holder.dataset.shown) return false;
  holder.dataset.shown = fresh.innerHTML;
  const focused = holder.contains(document.activeElement) ? document.activeElement.getAttribute('data-focus') : null;
  holder.replaceChildren(...fresh.childNodes);
  if (focused) {
    const again = [...holder.querySelectorAll('[data-focus]')].find((one) => one.dataset.focus === focused);
    if (again) again.focus({preventScroll: true});
  }
  return true;
}

export function showProblem(text) {
  const line = document.getElementById('problem');
  line.hidden = !text;
  line.textContent = text || '';
}

const style = () => getComputedStyle(document.documentElement);

// A colour of style.css by its name there, as it is now: light or dark.
export const colour = (name) => style().getPropertyValue('--' + name).trim();

// Calls `redraw` when light becomes dark or dark light; returns what ends that.
export function onColourScheme(redraw) {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  dark.addEventListener('change', redraw);
  return () => dark.removeEventListener('change', redraw);
}
