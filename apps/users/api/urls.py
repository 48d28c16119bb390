"""Addresses of /auth and /users."""

from django.urls import path

from apps.users.api.auth_views import (
    CodeTokenView,
    CodeView,
    LogoutView,
    RefreshView,
    RegisterView,
    SessionListView,
    SessionView,
    TokenView,
    VerifyView,
)
from apps.users.api.export_views import ExportListView, ExportPartView, ExportView
from apps.users.api.login_views import ConfirmationView, EmailView, PhoneView, UsernameView
from apps.users.api.schema import SCHEMES
from apps.users.api.user_views import AddressListView, AddressView, PasswordView, ProfileView

# The schema generator finds an extension once its module is loaded.
__all__ = ["SCHEMES", "urlpatterns"]

urlpatterns = [
    path("auth/register", RegisterView.as_view()),
    path("auth/verify", VerifyView.as_view()),
    path("auth/token", TokenView.as_view()),
    path("auth/otp", CodeView.as_view()),
    path("auth/token/otp", CodeTokenView.as_view()),
    path("auth/token/refresh", RefreshView.as_view()),
    path("auth/logout", LogoutView.as_view()),
    path("auth/sessions", SessionListView.as_view()),
    path("auth/sessions/<str:session_id>", SessionView.as_view()),
    path("users/me", ProfileView.as_view()),
    path("users/me/password", PasswordView.as_view()),
    path("users/me/codes", ConfirmationView.as_view()),
    path("users/me/logins/username", UsernameView.as_view()),
    path("users/me/logins/email", EmailView.as_view()),
    path("users/me/logins/phone", PhoneView.as_view()),
    path("users/me/exports", ExportListView.as_view()),
    path("users/me/exports/<str:export_id>", ExportView.as_view()),
    path("users/me/exports/<str:export_id>/parts/<str:n>", ExportPartView.as_view()),
    path("users/me/addresses", AddressListView.as_view()),
    path("users/me/addresses/<str:address_id>", AddressView.as_view()),
]
