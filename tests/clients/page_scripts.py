"""What tests ask of the playground's page, as scripts that the browser runs."""

from __future__ import annotations

# How many elements a selector finds; for conditions that are waited for.
COUNT = "(selector => document.querySelectorAll(selector).length)"

# Notes each text that an element shows, frame by frame: what a person can see of a stream.
NOTE_TEXTS = """selector => {
  const texts = (window.noted ??= {})[selector] = [];
  const look = () => {
    const text = document.querySelector(selector)?.innerText.trim() ?? '';
    if (text !== texts.at(-1)) texts.push(text);
    requestAnimationFrame(look);
  };
  look();
}"""

# What has the focus, its name, and whether one sees that it has it.
FOCUSED = """() => {
  const it = document.activeElement, style = getComputedStyle(it);
  const words = it.ariaLabel || it.closest('label')?.innerText || it.innerText || it.id;
  return [it.id, words.trim(), style.outlineStyle === 'solid' && style.outlineWidth === '2px'];
}"""

CONTRAST = """element => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const light = colour => numbers(colour).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let behind = element;
  while (behind.parentElement && (numbers(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0)
    behind = behind.parentElement;
  const a = light(getComputedStyle(element).color);
  const b = light(getComputedStyle(behind).backgroundColor);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""

MARGINS = """() => {
  const box = document.querySelector('main').getBoundingClientRect();
  return [box.left, document.documentElement.clientWidth - box.right];
}"""

# What sticks out of the window, unless it lies in something that scrolls by itself.
STICKS_OUT = """() => [...document.querySelectorAll('main *')].filter(element => {
  const box = element.getBoundingClientRect();
  return box.width > 1 && box.right > innerWidth + 1
    && !element.closest('.xc-table, .xc-cards, .katex, [style*=overflow]');
}).map(element => element.outerHTML.slice(0, 120))"""

# Where the box of the reasoning stands: its last line is in sight, and its first can be reached.
SCROLLED = """() => {
  const box = document.querySelector('#xc-reasoning'), inside = box.getBoundingClientRect();
  const lines = [...box.querySelectorAll('.md p')];
  const seen = line => {
    const at = line.getBoundingClientRect();
    return at.top >= inside.top - 1 && at.bottom <= inside.bottom + 1;
  };
  const last = seen(lines.at(-1));
  box.scrollTop = -box.scrollHeight;
  return [last, seen(lines[0])];
}"""
