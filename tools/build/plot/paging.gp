# SPDX-License-Identifier: GPL-2.0
#
# usage: gnuplot -e "dir='DIRECTORY'; out='FILE.png'; what='TITLE'" paging.gp
#
# Reads the data files of series.awk in dir.

set terminal pngcairo size 1400,1000 font "sans,12" background "white"
set output out

array colour[4] = [ "#9e9e9e", "#d55e00", "#e69f00", "#0072b2" ]
memory(b) = b eq "anon" ? "anonymous memory" : "guest_memfd"

set style data histogram
set style histogram clustered gap 1
set style fill solid 0.9 border rgb "white"
set boxwidth 0.95
set grid ytics lc rgb "#dddddd"
set tics nomirror
set border 3
set yrange [0:*]
set key noenhanced

set multiplot layout 2,2 title what font "sans,15" \
	margins 0.07,0.98,0.07,0.91 spacing 0.08,0.15

set key inside top center horizontal
set offsets 0, 0, graph 0.15, 0
set ylabel "pages a second"
do for [b in "anon gmem"] {
	set title sprintf("%s: pages a second", memory(b)) noenhanced
	plot for [i=1:4] sprintf("%s/rate-%s.dat", dir, b) \
		using (column(i + 1)):xtic(1) title columnheader(i + 1) lc rgb colour[i]
}

set key inside top right vertical
unset offsets
set ylabel "pages"
set xtics rotate by -35
do for [b in "anon gmem"] {
	set title sprintf("%s, 1 vCPU: how long the first access took (bucket from ...)", \
		memory(b)) noenhanced
	plot for [i=1:4] sprintf("%s/latency-%s.dat", dir, b) \
		using (column(i + 1)):xtic(1) title columnheader(i + 1) lc rgb colour[i]
}
unset multiplot
