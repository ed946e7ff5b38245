"""Settings and routes become ready objects, once; what is shared is opened and closed here.

Everything a route needs is bound to it here: its authenticator, its way to the backend, its limits,
its counters. After this, no request looks anything up by name.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientSession

from gateway.auth.app_token import AppToken
from gateway.auth.base import Authenticator
from gateway.auth.body_credentials import BodyCredentials
from gateway.auth.plan_key import PlanKey
from gateway.auth.public import Public
from gateway.auth.registered_key import RegisteredKey
from gateway.exchange import Answer, Exchange, json_answer
from gateway.identity.apple import AppleVerifier
from gateway.identity.google import GoogleVerifier
from gateway.identity.signin import AppleSignIn, GoogleSignIn
from gateway.identity.tokens import AppTokens
from gateway.identity.users import Users
from gateway.limits import ClientAddresses, Limiter, Policy
from gateway.observe.access_log import AccessLog
from gateway.observe.metrics import Metrics
from gateway.pipeline import Gateway, Responder, Route
from gateway.proxy.cors import Cors
from gateway.proxy.forward import Forwarder
from gateway.proxy.headers import head_lines, request_drops
from gateway.proxy.pool import Pool
from gateway.proxy.tunnel import Tunneler
from gateway.routefile import RouteFile, RouteSpec, UpstreamSpec
from gateway.routing import Match, RouteTable
from gateway.settings import Settings
from gateway.store.keys import Keys
from gateway.store.plans import Plans
from gateway.store.redis import Store
from gateway.vault import Vault
from gateway.vault.endpoints import KeyStatus, VerifyKey
