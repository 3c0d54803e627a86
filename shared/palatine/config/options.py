"""Every option of uWSGI 2.0.31: name, argument, type and what it implies. Facts only; `config.table` reads them.

A line that starts with a colon opens a group: argument (none, opt, req), type, then `immediate` (takes effect
while it is read), `+word` (switches something else on) and `@language` (needs another language's runtime).
Names follow, each with a comma; `alias=canonical` names another spelling of the same setting.
"""

OPTIONS = """
:none flag
 thunder-lock, harakiri-verbose, harakiri-no-arh, no-harakiri-arh=harakiri-no-arh,
 no-harakiri-after-req-hook=harakiri-no-arh, skip-zero, skip-atexit, skip-atexit-teardown, ignore-sigpipe,
 ignore-write-errors, write-errors-exception-only, disable-write-exception, memory-report, cgi-mode,
 abstract-socket, freebind, enable-threads, no-threads-wait, auto-procname, single-interpreter, master,
 honour-stdin, emperor-nofollow, emperor-tyrant, emperor-tyrant-nofollow, early-emperor, emperor-magic-exec,
 emperor-no-blacklist, emperor-graceful-shutdown, imperial-monitor-list,
 imperial-monitors-list=imperial-monitor-list, exit-on-reload, die-on-term, force-gateway, reaper,
 no-fd-passing, persistent-ipcsem, cache-no-expire, cache-report-freed-items, cache-use-last-modified,
 spooler-ordered, spooler-quiet, disable-logging, no-initgroups, setns-preopen, jailed, refork,
 re-fork=refork, refork-as-root, re-fork-as-root=refork-as-root, refork-post-jail,
 re-fork-post-jail=refork-post-jail, no-server, no-defer-accept, tcp-nodelay, so-keepalive,
 shutdown-sockets, never-swap, propagate-touch, no-orphans, no-default-app, manage-script-name,
 ignore-script-name, catch-exceptions, reload-on-exception, subscriptions-use-credentials,
 subscription-dotsplit, unsubscribe-on-graceful-reload, start-unsubscribed, ssl-verbose, ssl-enable3,
 ssl-enable-sslv3=ssl-enable3, ssl-enable-tlsv1, logformat-strftime, log-format-strftime=logformat-strftime,
 logfile-chown, logger-list, loggers-list=logger-list, use-abort, alarm-list, alarms-list=alarm-list,
 log-master-stream, log-master-req-stream, log-reopen, log-truncate, log-zero, log-4xx, log-5xx, log-micros,
 log-x-forwarded-for, master-as-root, drop-after-init, drop-after-apps, lazy, lazy-apps, cheaper-algo-list,
 cheaper-algos-list=cheaper-algo-list, cheaper-list=cheaper-algo-list, die-on-idle, vhost, router-list,
 routers-list=router-list, clock-list, clocks-list=clock-list, honour-range, disable-sendfile,
 close-on-exec, close-on-exec2, vacuum, enable-proxy-protocol, reuse-port, tcp-fast-open-client,
 tcp-fastopen-client=tcp-fast-open-client, zerg-fallback, loop-list, loops-list=loop-list, plugins-list,
 plugin-list=plugins-list, dump-options, show-config, version, carbon-no-workers, carbon-name-resolve,
 carbon-resolve-names=carbon-name-resolve, carbon-use-metrics, cheaper-busyness-verbose, fastrouter-cheap,
 fastrouter-fallback-on-no-key, forkptyrouter-cheap, geoip-use-disk, gevent-monkey-patch,
 gevent-early-monkey-patch, gevent-wait-for-hub, greenlet, https-export-cert, http-auto-chunked,
 http-auto-gzip, http-raw-body, http-websockets, http-chunked-input, http-cheap, http-manage-source,
 http-manage-rtsp, notfound-log, pty-log, pty-input, pty-no-isig, paste-logger, reload-os-env, no-site,
 start_response-nodelay, wsgi-strict, wsgi-accept-buffer, wsgi-accept-buffers=wsgi-accept-buffer,
 wsgi-disable-file-wrapper, py-call-osafterfork, py-call-uwsgi-fork-hooks, rawrouter-cheap,
 rawrouter-xclient, rsyslog-split-messages, sslrouter-cheap, sslrouter-sni, stackless, symcall-use-next,
 ugreen,
:none flag +log-master +master
 threaded-logger, log-master,
:none flag +master
 enable-metrics, stats-http, stats-minified, stats-min=stats-minified, stats-no-cores, stats-no-metrics,
 cheap, daemons-honour-stdin,
:none flag +master +metrics
 metrics-dir-restore, metric-dir-restore=metrics-dir-restore, metrics-no-cores,
:none flag +mime
 check-static-docroot, static-gzip-all,
:none flag +no-initial
 nagios,
:none flag +vhost
 vhost-host,
:none flag immediate
 strict, end-blacklist, end-whitelist, help, usage=help, command-mode, pcre-jit, autoload, cflags, dot-h,
 config-py, ldap-schema, ldap-schema-ldif, python-version,
:none int
 so-send-timeout, socket-send-timeout=so-send-timeout, so-write-timeout=so-send-timeout,
 socket-write-timeout=so-send-timeout,
:none list
 ssl-option,
:none text immediate
 if-reload, if-not-reload,
:opt flag
 need-app, http-enable-proxy-protocol,
:opt int
 ksm, ssl-verify-depth, http-keepalive,
:opt int +master
 mule-msg-size,
:opt list +log-master +master
 log-syslog,
:opt list +master
 mule,
:opt size
 http-manage-expect,
:opt text
 chmod-socket, chmod=chmod-socket, snmp, logdate=log-date, log-date, log-prefix=log-date, check-cache,
 fastrouter-use-cache, fastrouter-use-socket, http-use-cache, http-use-socket, pyshell, pyshell-oneshot,
 rawrouter-use-cache, rawrouter-use-socket, sslrouter-use-cache, sslrouter-use-socket,
 tuntap-use-credentials,
:opt text +master
 ssl-sessions-use-cache, ssl-session-use-cache=ssl-sessions-use-cache,
:opt text +metrics
 zabbix-template,
:opt text immediate
 endfor, end-for=endfor, endif, end-if=endif, exit,
:req flag
 auto-weight, alarm-cheap, log-sendfile, log-ioerror, fastrouter-quiet, http-quiet,
 http-server-name-as-http-host, rawrouter-quiet, sslrouter-quiet,
:req int
 processes, workers=processes, harakiri, harakiri-graceful-timeout, harakiri-graceful-signal,
 harakiri-queue-threshold, backtrace-depth, mule-harakiri, max-vars, max-apps, emperor-freq,
 emperor-required-heartbeat, emperor-curse-tolerance, emperor-broodlord, emperor-throttle,
 emperor-max-throttle, vassal-sos, vassal-sos-backlog, heartbeat, reload-mercy, worker-reload-mercy,
 mule-reload-mercy, max-worker-lifetime-delta, socket-timeout, locks, cache-store-sync, cache-expire-freq,
 queue, queue-blocksize, queue-store-sync, spooler-max-tasks, spooler-harakiri, spooler-frequency,
 spooler-freq=spooler-frequency, signal-bufsize, signals-bufsize=signal-bufsize, wait-for-interface-timeout,
 wait-interface-timeout=wait-for-interface-timeout, wait-for-iface-timeout=wait-for-interface-timeout,
 wait-iface-timeout=wait-for-interface-timeout, wait-for-fs-timeout, wait-for-socket-timeout, limit-nproc,
 mem-collector-freq, cpu-affinity, multicast-ttl, multicast-loop, subscribe-freq, subscription-tolerance,
 ssl-sessions-timeout, ssl-session-timeout=ssl-sessions-timeout, async, max-fd, alarm-freq, log-slow,
 websockets-ping-freq, websocket-ping-freq=websockets-ping-freq, websockets-pong-tolerance,
 websocket-pong-tolerance=websockets-pong-tolerance, chunked-input-timeout, offload-threads,
 offload-thread=offload-threads, tcp-fast-open, tcp-fastopen=tcp-fast-open, cron-harakiri,
 response-headers-limit, carbon-timeout, carbon-freq, carbon-max-retry, carbon-retry-delay,
 cheaper-busyness-backlog-alert, cheaper-busyness-backlog-step, dumbloop-modifier1, fastrouter-processes,
 fastrouter-workers=fastrouter-processes, fastrouter-gracetime, fastrouter-events, fastrouter-timeout,
 fastrouter-harakiri, forkptyrouter-processes, forkptyrouter-workers=forkptyrouter-processes,
 forkptyrouter-events, forkptyrouter-timeout, forkptyrouter-harakiri, glusterfs-timeout, http-processes,
 http-workers=http-processes, http-modifier1, http-modifier2, http-events, http-timeout, http-gracetime,
 http-harakiri, http-headers-timeout, http-connect-timeout, ping-timeout, optimize, rados-timeout,
 rawrouter-processes, rawrouter-workers=rawrouter-processes, rawrouter-gracetime, rawrouter-events,
 rawrouter-max-retries, rawrouter-timeout, rawrouter-harakiri, rrdtool-freq, rsyslog-packet-size,
 sslrouter-processes, sslrouter-workers=sslrouter-processes, sslrouter-gracetime, sslrouter-events,
 sslrouter-max-retries, sslrouter-timeout, sslrouter-harakiri, ugreen-stacksize,
:req int +cheaper +master
 cheaper, cheaper-initial, cheaper-step,
:req int +master
 stats-pusher-default-freq, stats-pushers-default-freq=stats-pusher-default-freq, legion-freq,
 legion-tolerance, legion-death-on-lord-error, legion-skew-tolerance, subscriptions-sign-check-tolerance,
 check-interval, forkbomb-delay, idle,
:req int +master +mime
 static-cache-paths,
:req int +master +threads
 py-auto-reload, py-autoreload=py-auto-reload, python-auto-reload=py-auto-reload,
 python-autoreload=py-auto-reload,
:req int +threads
 threads, thread-stacksize, threads-stacksize=thread-stacksize, thread-stack-size=thread-stacksize,
 threads-stack-size=thread-stacksize,
:req int immediate
 listen, spooler-processes,
:req list
 socket, uwsgi-socket=socket, suwsgi-socket, ssl-socket=suwsgi-socket, http-socket, http11-socket,
 https-socket, fastcgi-socket, fastcgi-nph-socket, scgi-socket, scgi-nph-socket, raw-socket, puwsgi-socket,
 shared-socket, undeferred-shared-socket, declare-option2, inherit, map-socket, emperor,
 emperor-wrapper-override, emperor-wrapper-fallback, emperor-extra-extension,
 emperor-extra-ext=emperor-extra-extension, vassals-inherit, vassals-include, vassals-inherit-before,
 vassals-include-before, vassals-set, vassal-set=vassals-set, sharedarea, safe-fd, fd-safe=safe-fd,
 add-cache-item, load-file-in-cache, load-file-in-cache-gzip, cache2, add-gid, setns-socket-skip,
 setns-skip=setns-socket-skip, jail-ip4, jail-ip6, jail2, libjail=jail2, hook-asap, hook-pre-jail,
 hook-post-jail, hook-in-jail, hook-as-root, hook-as-user, hook-as-user-atexit, hook-pre-app, hook-post-app,
 hook-post-fork, hook-accepting, hook-accepting1, hook-accepting-once, hook-accepting1-once,
 hook-master-start, hook-touch, hook-emperor-start, hook-emperor-stop, hook-emperor-reload,
 hook-emperor-lost, hook-as-vassal, hook-as-emperor, hook-as-mule, hook-as-gateway, after-request-hook,
 after-request-call=after-request-hook, exec-asap, exec-pre-jail, exec-post-jail, exec-in-jail,
 exec-as-root, exec-as-user, exec-as-user-atexit, exec-pre-app, exec-post-app, exec-as-vassal,
 exec-as-emperor, mount-asap, mount-pre-jail, mount-post-jail, mount-in-jail, mount-as-root,
 mount-as-vassal, mount-as-emperor, umount-asap, umount-pre-jail, umount-post-jail, umount-in-jail,
 umount-as-root, umount-as-vassal, umount-as-emperor, wait-for-interface, wait-interface=wait-for-interface,
 wait-for-iface=wait-for-interface, wait-iface=wait-for-interface, wait-for-fs, wait-for-file=wait-for-fs,
 wait-for-dir=wait-for-fs, wait-for-mountpoint, wait-for-socket, call-asap, call-pre-jail, call-post-jail,
 call-in-jail, call-as-root, call-as-user, call-as-user-atexit, call-pre-app, call-post-app, call-as-vassal,
 call-as-vassal1, call-as-vassal3, call-as-emperor, call-as-emperor1, call-as-emperor2, call-as-emperor4,
 reload-on-exception-type, reload-on-exception-value, reload-on-exception-repr, sni, sni-regexp, binsh,
 mount, worker-mount=mount, route, route-host, route-uri, route-qs, route-remote-addr, route-user-agent,
 route-remote-user, route-referer, route-label, route-if, route-if-not, route-run, final-route,
 final-route-status, final-route-host, final-route-uri, final-route-qs, final-route-remote-addr,
 final-route-user-agent, final-route-remote-user, final-route-referer, final-route-label, final-route-if,
 final-route-if-not, final-route-run, error-route, error-route-status, error-route-host, error-route-uri,
 error-route-qs, error-route-remote-addr, error-route-user-agent, error-route-remote-user,
 error-route-referer, error-route-label, error-route-if, error-route-if-not, error-route-run,
 response-route, response-route-status, response-route-host, response-route-uri, response-route-qs,
 response-route-remote-addr, response-route-user-agent, response-route-remote-user, response-route-referer,
 response-route-label, response-route-if, response-route-if-not, response-route-run, error-page-403,
 error-page-404, error-page-500, add-header, rem-header, del-header=rem-header, collect-header,
 response-header-collect=collect-header, pull-header, env, envdir, unenv, file-write, cgroup, cgroup-opt,
 namespace-keep-mount, zerg, print, fastrouter, fastrouter-fallback, fastrouter-to, fastrouter-resubscribe,
 forkptyrouter, forkpty-router=forkptyrouter, forkptyurouter, forkpty-urouter=forkptyurouter,
 forkptyrouter-fallback, http, httprouter=http, https, https2, http-to-https, http-var, http-to,
 http-fallback, http-stud-prefix, http-resubscribe, zeromq, zmq=zeromq, zeromq-socket=zeromq,
 zmq-socket=zeromq, mongrel2=zeromq, pythonpath, python-path=pythonpath, pp=pythonpath, pymodule-alias,
 post-pymodule-alias, import, pyimport=import, py-import=import, python-import=import, shared-import,
 shared-pyimport=shared-import, shared-py-import=shared-import, shared-python-import=shared-import,
 spooler-import, spooler-pyimport=spooler-import, spooler-py-import=spooler-import,
 spooler-python-import=spooler-import, py-sharedarea, rawrouter, rawrouter-fallback, rawrouter-to,
 sslrouter, sslrouter2, sslrouter-fallback, sslrouter-to, symcall, symcall-register-rpc, symcall-post-fork,
 tuntap-router, tuntap-device, tuntap-router-firewall-in, tuntap-router-firewall-out, tuntap-router-route,
 tuntap-device-rule, xslt-docroot, xslt-ext, xslt-var, xslt-stylesheet, zergpool, zerg-pool=zergpool,
:req list +log-master +master
 touch-logrotate, touch-logreopen, log-socket, logger, log-encoder, log-req-encoder, log-drain, log-filter,
 log-route, log-alarm, alarm-log=log-alarm, not-log-alarm, not-alarm-log=not-log-alarm, log-zeromq,
:req list +master
 cache-udp-server, cache-udp-node, spooler, spooler-external, farm, signal-timer, timer=signal-timer,
 signal-rbtimer, rbtimer=signal-rbtimer, reload-on-fd, brutal-reload-on-fd, touch-reload,
 touch-workers-reload, touch-mules-reload, touch-spoolers-reload, touch-chain-reload, touch-exec,
 touch-signal, fs-reload, fs-brutal-reload, fs-signal, check-mountpoint, mountpoint-check=check-mountpoint,
 check-mount=check-mountpoint, mount-check=check-mountpoint, exception-handler, master-fifo, legion,
 legion-mcast, legion-node, legion-lord, legion-unlord, legion-setup, legion-death, legion-join,
 legion-node-joined, legion-node-left, legion-quorum, legion-scroll, subscriptions-sign-skip-uid,
 subscriptions-credentials-check, subscribe-to, st=subscribe-to, subscribe=subscribe-to, subscribe2, alarm,
 alarm-fd, alarm-segfault, segfault-alarm=alarm-segfault, alarm-backlog, backlog-alarm=alarm-backlog,
 lq-alarm=alarm-backlog, alarm-lq=alarm-backlog, alarm-listen-queue=alarm-backlog,
 listen-queue-alarm=alarm-backlog, cron, cron2, unique-cron, legion-cron, cron-legion=legion-cron,
 unique-legion-cron, unique-cron-legion=unique-legion-cron, attach-daemon, attach-control-daemon,
 smart-attach-daemon, smart-attach-daemon2, legion-attach-daemon, legion-smart-attach-daemon,
 legion-smart-attach-daemon2, attach-daemon2, carbon, curl-cron, cron-curl=curl-cron, legion-curl-cron,
 legion-cron-curl=legion-curl-cron, curl-cron-legion=legion-curl-cron, cron-curl-legion=legion-curl-cron,
:req list +master +metrics
 metric, metric-threshold, metric-alarm=metric-threshold, alarm-metric=metric-threshold, stats-push,
 rrdtool,
:req list +master +threads
 py-auto-reload-ignore,
:req list +mime
 check-static, static-check=check-static, static-map, static-map2, static-skip-ext, static-index,
 static-safe, mimefile, mime-file=mimefile, static-expires-type, static-expires-type-mtime, static-expires,
 static-expires-mtime, static-expires-uri, static-expires-uri-mtime, static-expires-path-info,
 static-expires-path-info-mtime, static-gzip, static-gzip-dir, static-gzip-prefix=static-gzip-dir,
 static-gzip-ext, static-gzip-suffix=static-gzip-ext, glusterfs-mount, rados-mount, webdav-mount,
 webdav-css, webdav-javascript, webdav-js=webdav-javascript, webdav-add-option, webdav-add-prop,
 webdav-add-collection-prop, webdav-add-object-prop, webdav-add-prop-href, webdav-add-collection-prop-href,
 webdav-add-object-prop-href, webdav-add-prop-comp, webdav-add-collection-prop-comp,
 webdav-add-object-prop-comp, webdav-add-rtype-prop, webdav-add-rtype-collection-prop,
 webdav-add-rtype-object-prop, webdav-skip-prop,
:req list +no-initial
 get,
:req list +req-log-master
 req-logger, logger-req=req-logger, log-req-route,
:req list immediate
 xmlconfig=xml, xml, config, set, set-placeholder, set-ph=set-placeholder, declare-option, resolve, include,
 inject-before, inject-after, flock, flock-wait, ini, yaml, yml=yaml, json, js=json, early-envdir, plugins,
 plugin=plugins, need-plugins, need-plugin=need-plugins, plugins-dir, plugin-dir=plugins-dir, dlopen,
 iprint,
:req megabytes
 limit-as,
:req megabytes +master +memory
 evil-reload-on-as, evil-reload-on-rss,
:req megabytes +memory
 reload-on-as, reload-on-rss,
:req short
 buffer-size, legion-scroll-max-size, forkptyrouter-rows, forkptyrouter-cols,
:req signed
 prio,
:req size
 http-socket-modifier1, http-socket-modifier2, https-socket-modifier1, https-socket-modifier2,
 fastcgi-modifier1, fastcgi-modifier2, scgi-modifier1, scgi-modifier2, raw-modifier1, raw-modifier2,
 write-errors-tolerance, max-requests, max-requests-delta, min-worker-lifetime, max-worker-lifetime, cache,
 cache-blocksize, rpc-max, weight, socket-sndbuf, socket-rcvbuf, limit-post, post-buffering,
 post-buffering-bufsize, body-read-warning, legion-scroll-list-max-size, alarm-msg-size, log-master-bufsize,
 log-big, websockets-max-size, websocket-max-size=websockets-max-size, chunked-input-limit,
 cheaper-busyness-max, cheaper-busyness-min, cheaper-busyness-multiplier, cheaper-busyness-penalty,
 cheaper-busyness-backlog-multiplier, cheaper-busyness-backlog-nonzero, fastrouter-post-buffering,
 fastrouter-buffer-size, http-buffer-size, rawrouter-buffer-size, sslrouter-buffer-size,
:req size +cheaper +master
 cheaper-overload, cheaper-rss-limit-soft, cheaper-rss-limit-hard,
:req size +log-master +master
 log-maxsize,
:req text
 protocol, socket-protocol=protocol, daemonize, daemonize2, profiler, chown-socket, emperor-proxy-socket,
 emperor-wrapper, emperor-procname, emperor-pidfile, emperor-stats, emperor-stats-server=emperor-stats,
 emperor-on-demand-extension, emperor-on-demand-ext=emperor-on-demand-extension,
 emperor-on-demand-directory, emperor-on-demand-dir=emperor-on-demand-directory, emperor-on-demand-exec,
 emperor-use-clone, emperor-cap, vassals-cap=emperor-cap, vassal-cap=emperor-cap, vassals-start-hook,
 vassals-stop-hook, lock-engine, ftok, cache-sync, spooler-chdir, pidfile, pidfile2, safe-pidfile,
 safe-pidfile2, chroot, pivot-root, pivot_root=pivot-root, uid, gid, cap, unshare, unshare2, setns, jail,
 jidfile, jid-file=jidfile, jail-attach, upload-progress, subscription-algo, snmp-community, sni-dir,
 sni-dir-ciphers, ssl-tmp-dir, binary-path, privileged-binary-patch, unprivileged-binary-patch,
 privileged-binary-patch-arg, unprivileged-binary-patch-arg, logto, logto2, log-format,
 logformat=log-format, logfile-chmod, log-backupname, force-cwd, chdir, chdir2, clock, mode,
 cgroup-dir-mode, namespace, ns=namespace, namespace-net, ns-net=namespace-net, loop, worker-exec,
 worker-exec2, allowed-modifiers, remap-modifier, carbon-id, carbon-root, carbon-hostname-dots,
 carbon-idle-avg, dumbloop-code, dumbloop-function, fastrouter-zerg, fastrouter-use-pattern,
 fastrouter-use-base, fastrouter-use-code-string, fastrouter-subscription-server,
 fastrouter-subscription-slot, fastrouter-post-buffering-dir, fastrouter-stats,
 fastrouter-stats-server=fastrouter-stats, fastrouter-ss=fastrouter-stats, fastrouter-uid, fastrouter-gid,
 fastrouter-resubscribe-bind, fastrouter-subscription-fallback-key, forkptyrouter-command,
 forkpty-router-command=forkptyrouter-command, forkptyrouter-cmd=forkptyrouter-command,
 forkpty-router-cmd=forkptyrouter-command, forkptyrouter-zerg, forkptyrouter-stats,
 forkptyrouter-stats-server=forkptyrouter-stats, forkptyrouter-ss=forkptyrouter-stats, geoip-country,
 geoip-city, https-session-context, http-zerg, http-use-pattern, http-use-base, http-subscription-server,
 http-subscription-fallback-key, http-use-code-string, http-stats, http-stats-server=http-stats,
 http-ss=http-stats, http-uid, http-gid, pam, pam-user, pty-socket, pty-exec, wsgi-file, file=wsgi-file,
 eval, module, wsgi=module, callable, test, home, virtualenv=home, venv=home, pyhome=home, py-programname,
 py-program-name=py-programname, pyargv, pecan, paste, web3, pump, wsgi-lite, python=pyrun, py=pyrun, pyrun,
 wsgi-env-behaviour, wsgi-env-behavior=wsgi-env-behaviour, python-raw, python-worker-override,
 py-executable, py-sys-executable=py-executable, rawrouter-zerg, rawrouter-use-pattern, rawrouter-use-base,
 rawrouter-use-code-string, rawrouter-subscription-server, rawrouter-subscription-slot, rawrouter-stats,
 rawrouter-stats-server=rawrouter-stats, rawrouter-ss=rawrouter-stats, rrdtool-lib,
 sslrouter-session-context, sslrouter-zerg, sslrouter-use-pattern, sslrouter-use-base,
 sslrouter-use-code-string, sslrouter-subscription-server, sslrouter-stats,
 sslrouter-stats-server=sslrouter-stats, sslrouter-ss=sslrouter-stats, tuntap-router-stats,
 xslt-content-type,
:req text +master
 cache-store, queue-store, mules, setns-socket, udp, stats, stats-server=stats, multicast, notify-socket,
 subscription-notify-socket, subscriptions-sign-check, subscribe-with-modifier1, cheaper-algo, zerg-server,
:req text +master +metrics
 metrics-dir, metric-dir=metrics-dir,
:req text +master +mime
 static-cache-paths-name,
:req text +master +threads
 py-tracebacker,
:req text +mime
 file-serve-mode, fileserve-mode=file-serve-mode, webdav-class-directory, webdav-div, webdav-lock-cache,
 webdav-principal-base,
:req text +no-initial
 pty-connect, pty-uconnect,
:req text +no-initial +no-server
 ping,
:req text +procname
 procname-prefix, procname-prefix-spaced, procname-append, procname, procname-master,
:req text +threads
 asyncio, gevent, tornado,
:req text immediate
 fallback-config, for, for-glob, for-times, for-readline, if-opt, if-not-opt, if-env, if-not-env,
 ifenv=if-env, if-hostname, if-not-hostname, if-hostname-match, if-not-hostname-match, if-exists,
 if-not-exists, ifexists=if-exists, if-plugin, if-not-plugin, ifplugin=if-plugin, if-file, if-not-file,
 if-dir, if-not-dir, ifdir=if-dir, if-directory=if-dir, blacklist, whitelist, stop, reload, pause,
 suspend=pause, resume=pause, connect-and-read, extract, umask, print-sym, print-symbol=print-sym, signal,
 flock2, flock-wait2, immediate-uid, immediate-gid, binary-append-data, build-plugin, ldap, ini-paste,
 ini-paste-logged, sqlite3, sqlite=sqlite3,
:none flag @cgi
 cgi-from-docroot, cgi-optimize, cgi-optimized=cgi-optimize, cgi-path-info, cgi-do-not-kill-on-error,
 cgi-close-stdin-on-eof,
:none int @cgi
 cgi-async-max-attempts,
:req int @cgi
 cgi-timeout,
:req list @cgi
 cgi, cgi-map-helper, cgi-helper=cgi-map-helper, cgi-index, cgi-allowed-ext, cgi-unset, cgi-loadlib,
 cgi-safe,
:req size @cgi
 cgi-buffer-size,
:req list @go
 go-load, gccgo-load=go-load,
:req text +threads @go
 goroutines,
:req text @go
 go-args, gccgo-args=go-args,
:req list @jvm
 jvm-main-class, jvm-opt, jvm-class, jvm-classpath, ring-load, clojure-load=ring-load,
:req text @jvm
 jwsgi, ring-app,
:none int @lua
 lua-gc-freq,
:none text @lua
 lua-shell, luashell=lua-shell,
:req list @lua
 lua-load,
:req text @lua
 lua,
:req list @mono
 mono-app, mono-key, mono-exec, mono-index,
:req size @mono
 mono-gc-freq,
:req text @mono
 mono-version, mono-config, mono-assembly,
:none flag @perl
 psgi-enable-psgix-io, perl-no-die-catch, perl-no-plack,
:none flag immediate @perl
 perl-version,
:none text @perl
 plshell-oneshot,
:opt text @perl
 plshell,
:req int +master @perl
 perl-auto-reload,
:req list +master @perl
 perl-auto-reload-ignore,
:req list @perl
 perl-arg, perl-exec, perl-exec-post-fork,
:req text @perl
 coroae, psgi, perl-local-lib, perl-args,
:none flag @php
 php-dump-config,
:req list @php
 php-ini-append, php-config-append=php-ini-append, php-set, php-index, php-allowed-docroot, php-allowed-ext,
 php-allowed-script, php-app-bypass, php-var, php-constant, php-exec-before, php-exec-begin=php-exec-before,
 php-exec-after, php-exec-end=php-exec-after,
:req text @php
 php-ini, php-config=php-ini, php-docroot, php-server-software, php-app, php-app-qs, php-fallback,
 php-fallback2, php-fallback-qs, php-sapi-name,
:req list @pypy
 pypy-eval, pypy-eval-post-fork, pypy-exec, pypy-exec-post-fork, pypy-pp, pypy-python-path=pypy-pp,
 pypy-pythonpath=pypy-pp,
:req text @pypy
 pypy-lib, pypy-setup, pypy-home, pypy-wsgi, pypy-wsgi-file, pypy-paste,
:req text immediate @pypy
 pypy-ini-paste,
:none flag @ruby
 fiber, rbthreads, rb-threads=rbthreads, rbthread=rbthreads, rb-thread=rbthreads,
:none text @ruby
 rbshell-oneshot,
:opt text @ruby
 rbshell,
:req int @ruby
 ruby-gc-freq, rb-gc-freq=ruby-gc-freq,
:req list @ruby
 rb-lib, ruby-lib=rb-lib, rb-require, ruby-require=rb-require, rbrequire=rb-require, rubyrequire=rb-require,
 require=rb-require, shared-rb-require, shared-ruby-require=shared-rb-require,
 shared-rbrequire=shared-rb-require, shared-rubyrequire=shared-rb-require, shared-require=shared-rb-require,
 rvm-path,
:req text +post-buffering @ruby
 rails, rack,
:req text @ruby
 gemset, rvm=gemset,
"""
