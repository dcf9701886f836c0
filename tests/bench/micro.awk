#!/usr/bin/awk -f
# Divan's trees of figures as one table.
BEGIN {
  print "# The parts of a request by themselves\n"
  print "| bench | of | median | fastest |\n|---|---:|---:|---:|"
}
{
  line = $0
  depth = 0
  while (sub(/^(│  |   )/, "", line)) depth++
  if (!sub(/^(├─|╰─) /, "", line)) next
  cells = split(line, cell, "│")
  # The name and the fastest time stand in one.
  split(cell[1], first, " ")
  if (depth == 0) { bench = first[1]; of = "" } else of = first[1]
  if (cells < 4 || cell[3] ~ /^ *$/) next
  gsub(/^ +| +$/, "", cell[3])
  printf "| %s | %s | %s | %s %s |\n", bench, of, cell[3], first[2], first[3]
}
