// From the disk a page cannot read other pages: the search then shows titles without excerpts.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// Follow the reader: a link to an exercise's solution, or to anything inside a folded block, opens the block.
function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
}
addEventListener("hashchange", unfold);
addEventListener("DOMContentLoaded", unfold);
// A block wider than the page scrolls by itself; make it reachable with the keyboard too.
addEventListener("load", () => {
  for (const e of document.querySelectorAll(".cell_output > *, .pst-scrollable-table-container, mjx-container[display]"))
    if (e.scrollWidth > e.clientWidth + 1) { e.tabIndex = 0; }
});
