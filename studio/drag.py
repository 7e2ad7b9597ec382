"""Drag: rows that are put in another order with the mouse, or with the arrow keys on their grips.

A row is an element with `data-place`, and in it a grip with `data-grip`, both its place in the list. What happens
is pressed as "move FROM TO". Each row may stand in a fragment of its own, with other views between them.
"""

from __future__ import annotations

import param

from studio.texts import Text
from studio.views import Fragment

ROWS = """
const KIND = "text/x-place"                       // while something hovers its kind is known, not yet its value
export function render({model, el}) {
  fragment({model, el})
  const root = el.lastChild
  const row = event => [...event.dataTransfer.types].includes(KIND) && event.target.closest?.("[data-place]")
  const clear = () => root.querySelectorAll(".above, .below").forEach(e => e.classList.remove("above", "below"))
  const lower = (event, at) => {
    const box = at.getBoundingClientRect()
    return event.clientY > box.top + box.height / 2
  }
  root.addEventListener("dragstart", event => {
    const grip = event.target.closest("[data-grip]"), held = grip?.closest("[data-place]")
    if (!held) return
    event.dataTransfer.setData(KIND, grip.dataset.grip)
    event.dataTransfer.effectAllowed = "move"
    event.dataTransfer.setDragImage(held, 18, 22)
    requestAnimationFrame(() => held.classList.add("dragged"))
  })
  root.addEventListener("dragend", event => {
    clear()
    root.querySelectorAll(".dragged").forEach(e => e.classList.remove("dragged"))
  })
  root.addEventListener("dragover", event => {
    const at = row(event)
    if (!at) return
    event.preventDefault()
    event.dataTransfer.dropEffect = "move"
    const low = lower(event, at)
    at.classList.toggle("below", low)
    at.classList.toggle("above", !low)
  })
  root.addEventListener("dragleave", event => {
    if (!root.contains(event.relatedTarget)) clear()
  })
  root.addEventListener("drop", event => {
    const at = row(event)
    if (!at) return
    event.preventDefault()
    clear()
    const from = Number(event.dataTransfer.getData(KIND)), place = Number(at.dataset.place)
    const before = place + (lower(event, at) ? 1 : 0)
    const to = from < before ? before - 1 : before
    if (to !== from) model.send_msg(`move ${from} ${to}`)
  })
  root.addEventListener("keydown", event => {
    const grip = event.target.closest("[data-grip]"), by = {ArrowUp: -1, ArrowDown: 1}[event.key]
    if (!grip || !by || event.altKey || event.ctrlKey || event.metaKey) return
    event.preventDefault()
    const from = Number(grip.dataset.grip)
    model.send_msg(`move ${from} ${from + by}`)
  })
  model.on("focused", () => root.querySelector("[data-grip]")?.focus())
}
"""


class Draggable(Text):
    """A fragment of rows that can be dragged. `focused` counts how often its grip was given the keyboard."""

    focused = param.Integer(0, doc="Raise it to give the grip the keyboard, which follows what it moved")

    _esm = Fragment._esm.replace("export function render(", "function fragment(") + ROWS
